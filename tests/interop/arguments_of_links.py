"""The same for the calls that are about hosts and links."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from knet_trio import LinkPolicy
from tests.interop.arguments import Case, Here, There, call, case, same
from tests.interop.both_sides import (
    LOCAL,
    PEER,
    STATIC,
    TAKEN,
    CSide,
    Endpoint,
    OurSide,
)
from tests.ports import free_udp_port

FAR: Final = ("10.99.99.99", 5405)
HIGH: Final = 2**32 - 1


def c_name(host_id: int, name: bytes) -> There:
    return call("host_set_name", host_id, name)


def name(host_id: int, text: str) -> Here:
    return lambda o: setattr(o.handle.get_host(host_id), "name", text)


def hosts() -> Iterator[Case]:
    """Hosts and their names."""
    yield same("host_add", "again", "EEXIST", call("host_add", 2), lambda o: o.handle.add_host(2))
    yield same("host_add", "itself", TAKEN, call("host_add", 1), lambda o: o.handle.add_host(1))
    yield same("host_add", "3 is called 4", TAKEN, c_name(3, b"4"), name(3, "4"))
    yield case(
        "host_add",
        "4, as 3 is called",
        TAKEN,
        "EEXIST",
        "where another host is called so already, that is EEXIST here",
        call("host_add", 4),
        lambda o: o.handle.add_host(4),
    )
    yield same(
        "host_remove",
        "unknown",
        "EINVAL",
        call("host_remove", 99),
        lambda o: o.handle.get_host(99).remove(),
    )
    yield case(
        "host_remove",
        "with links",
        "EBUSY",
        TAKEN,
        "Removes its links first, in C EBUSY",
        call("host_remove", 2),
        lambda o: o.handle.get_host(2).remove(),
    )
    # In their order.
    for what, answer, host_id, new in (
        ("255 bytes", TAKEN, 2, "x" * 255),
        ("256 bytes", "EINVAL", 2, "x" * 256),
        ("beta", TAKEN, 2, "beta"),
        ("of another host", "EEXIST", 3, "beta"),
        ("the number of host 3", "EEXIST", 2, "3"),
        ("3 is called otherwise", TAKEN, 3, "gamma"),
        ("the number of host 3 then", TAKEN, 2, "3"),
        ("of an unknown host", "EINVAL", 99, "x"),
    ):
        yield same("host_set_name", what, answer, c_name(host_id, new.encode()), name(host_id, new))
    for what, in_c, here, says, raw, new in (
        ("its own", "EEXIST", TAKEN, "the host's own name in C only", b"3", "3"),
        ("no UTF-8", TAKEN, "EINVAL", "bytes that are not UTF-8 here only", b"\xff", "\udcff"),
        ("none at all", TAKEN, "EINVAL", "an empty name and bytes", b"", ""),
    ):
        yield case("host_set_name", what, in_c, here, says, c_name(2, raw), name(2, new))
    for wanted, answer in (("2", TAKEN), ("99", "ENOENT"), ("", "ENOENT"), ("y" * 300, "ENOENT")):
        yield same(
            "host_get_id_by_host_name",
            wanted[:5],
            answer,
            lambda c, n=wanted: c.handle.host_id_of(n),  # type: ignore[misc]
            lambda o, n=wanted: o.handle.get_host(n),  # type: ignore[misc]
        )
    yield same(
        "host_get_name_by_host_id",
        "unknown",
        "EINVAL",
        lambda c: c.handle.host_name(99),
        lambda o: o.handle.get_host(99).name,
    )
    yield same("host_set_policy", "2", TAKEN, call("host_set_policy", 2, 2), policy(2))
    yield same("host_set_policy", "3", "EINVAL", call("host_set_policy", 2, 3), policy(3))


def policy(number: int) -> Here:
    values = {0: LinkPolicy.PASSIVE, 1: LinkPolicy.ACTIVE, 2: LinkPolicy.ROUND_ROBIN}
    return lambda o: setattr(o.host, "policy", values.get(number, number))


def in_c_and_here(
    src: Endpoint | None = None,
    dst: Endpoint | None = PEER,
    *,
    host_id: int = 3,
    link_id: int = 0,
    transport: str = "udp",
) -> tuple[There, Here]:
    """Add a link, and remove it."""

    def in_c(side: CSide) -> None:
        side.add_link(src, dst, host_id=host_id, link_id=link_id, transport=transport)
        side.call("knet_link_clear_config", host_id, link_id)

    async def here(side: OurSide) -> None:
        await side.add_link(src, dst, host_id=host_id, link_id=link_id, transport=transport)
        await side.handle.get_host(host_id).links[link_id].remove()

    return in_c, here


def own_address() -> tuple[There, Here]:
    place = (LOCAL, free_udp_port())
    return in_c_and_here(place, place)


def on_the_static(what: str) -> tuple[There, Here]:
    """A dynamic link where the static one is, or a second static one to the same place."""
    dst = None if what == "dynamic" else PEER

    def in_c(side: CSide) -> None:
        side.add_link(side.used, dst)
        side.call("knet_link_clear_config", 3, 0)

    async def here(side: OurSide) -> None:
        src = side.static.config.src
        await side.add_link((src.host, src.port), dst)
        await side.handle.get_host(3).links[0].remove()

    return in_c, here


def links() -> Iterator[Case]:
    """Links and what they are made of."""
    set_config = "link_set_config"
    for what, answer, (in_c, here) in (
        ("a good one", TAKEN, in_c_and_here()),
        ("dynamic", TAKEN, in_c_and_here(dst=None)),
        ("an unknown host", "EINVAL", in_c_and_here(host_id=99)),
        ("link 8", "EINVAL", in_c_and_here(link_id=8)),
        ("an unknown transport", "EINVAL", in_c_and_here(transport="pigeons")),
        ("two IP versions", "EINVAL", in_c_and_here(dst=("::1", 5))),
        ("a foreign src", TAKEN, in_c_and_here(FAR)),
        ("src of port 0", TAKEN, in_c_and_here((LOCAL, 0))),
        ("src of every address", TAKEN, in_c_and_here(("0.0.0.0", 0))),
        ("a mapped src", "EINVAL", in_c_and_here(("::ffff:127.0.0.1", 0), ("::1", 5))),
        ("one that is there", "EBUSY", in_c_and_here(host_id=2)),
        ("a second one to the same place", TAKEN, on_the_static("static")),
        ("dynamic beside static", "EINVAL", on_the_static("dynamic")),
        ("loopback to another host", "EINVAL", in_c_and_here(transport="loopback")),
    ):
        yield same(set_config, what, answer, in_c, here)
    loose = "C takes them all"
    for what, (in_c, here) in (
        ("dst of port 0", in_c_and_here(dst=("127.0.0.2", 0))),
        ("dst of every address", in_c_and_here(dst=("0.0.0.0", 5))),
        ("dst of every IPv6 address", in_c_and_here(("::1", 0), ("::", 5))),
        ("dst multicast", in_c_and_here(dst=("224.0.0.1", 5))),
        ("dst multicast IPv6", in_c_and_here(("::1", 0), ("ff02::1", 5))),
        ("dst broadcast", in_c_and_here(dst=("255.255.255.255", 5))),
        ("src multicast", in_c_and_here(("224.0.0.1", 0))),
        ("src broadcast", in_c_and_here(("255.255.255.255", 0))),
        ("its own address", own_address()),
    ):
        yield case(set_config, what, TAKEN, "EINVAL", loose, in_c, here)
    yield case(
        set_config,
        "a mapped dst",
        TAKEN,
        "EINVAL",
        "An IPv4-mapped IPv6 address is EINVAL here, in C only as `src`",
        *in_c_and_here(("::1", 0), ("::ffff:127.0.0.2", 5)),
    )
    yield case(
        set_config,
        "link-local",
        TAKEN,
        "EINVAL",
        "A link-local one needs its interface",
        *in_c_and_here(("::1", 0), ("fe80::1", 5)),
    )
    yield same(set_config, "itself", TAKEN, call("host_add", 1), lambda o: o.handle.add_host(1))
    place = (LOCAL, 5)
    yield same(
        set_config, "loopback", TAKEN, *in_c_and_here(place, place, host_id=1, transport="loopback")
    )
    yield same(
        set_config,
        "loopback without dst",
        TAKEN,
        *in_c_and_here(place, None, host_id=1, transport="loopback"),
    )
    clear = "link_clear_config"
    yield same(clear, "unknown", "EINVAL", call(clear, 2, 7), lambda o: o.host.remove_link(7))
    yield case(
        clear,
        "enabled",
        "EBUSY",
        TAKEN,
        "Disables the link first, in C EBUSY",
        lambda c: (
            c.call("knet_link_set_enable", 2, STATIC, 1),
            c.call(f"knet_{clear}", 2, STATIC),
        ),
        remove_enabled,
    )
    yield from link_settings()


async def remove_enabled(side: OurSide) -> None:
    link = side.static
    link.enabled = True
    await link.remove()


def link_settings() -> Iterator[Case]:
    """What can be changed of a link."""
    enable = "link_set_enable"
    yield same(enable, "2", "EINVAL", call(enable, 2, STATIC, 2), of_link("enabled", 2))
    count = "link_set_pong_count"
    for value, answer in ((0, "EINVAL"), (1, TAKEN), (255, TAKEN)):
        c = call(count, 2, STATIC, value)
        yield same(count, f"{value}", answer, c, of_link("pong_count", value))
    priority = "link_set_priority"
    for value in (0, 255):
        c = call(priority, 2, STATIC, value)
        yield same(priority, f"{value}", TAKEN, c, of_link("priority", value))
    loose = "1.25 lets negative ones pass"
    for timers, in_c, here, says in (
        ((1, 1, 1), TAKEN, TAKEN, None),
        ((0, 2000, 2048), "EINVAL", "EINVAL", None),
        ((1000, 2000, 0), "EINVAL", "EINVAL", None),
        ((1000, 0, 2048), "ENOSYS", "ENOSYS", None),
        ((1000, 500, 2048), TAKEN, TAKEN, None),
        ((1000, 2000, HIGH), TAKEN, TAKEN, None),
        ((-1, 2000, 2048), TAKEN, "EINVAL", loose),
        ((1000, -1, 2048), TAKEN, "EINVAL", loose),
        ((10**9, 2000, 2048), TAKEN, "EINVAL", "in C milliseconds without an upper limit"),
    ):
        interval, timeout, samples = timers
        yield case(
            "link_set_ping_timers",
            f"{timers}",
            in_c,
            here,
            says,
            lambda c, t=timers: c.ping_timers(*t),  # type: ignore[misc]
            lambda o, t=(interval / 1000, timeout / 1000, samples): (  # type: ignore[misc]
                o.static.set_ping_timers(*t)
            ),
        )


def of_link(attribute: str, value: object) -> Here:
    return lambda o: setattr(o.static, attribute, value)


def cases_of_links() -> Iterator[Case]:
    """All of them, those of each call in the order in which they are to be tried."""
    yield from hosts()
    yield from links()
