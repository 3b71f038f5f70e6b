"""Ordinary mistakes of a program: each is a KnetError in words, and nothing half-done stays."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import attrs
import pytest

import knet_trio
from knet_trio import (
    AclEntry,
    Channel,
    CompressConfig,
    CryptoConfig,
    DefragBuffers,
    Host,
    InvalidArgumentError,
    KnetError,
    Link,
    LinkConfig,
    Unicast,
    open_handle,
)
from tests.cluster import KEY, LOCALHOST
from tests.ports import free_udp_port

HERE: Final = (LOCALHOST, 0)
THERE: Final = (LOCALHOST, 5405)


class Unshowable:
    """Something of a program's own that cannot even be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


WRONG: Final[tuple[Any, ...]] = (
    None,
    "",
    "1",
    "no\0thing",
    "\ud800",
    "text " * 1000,
    b"1",
    0,
    -1,
    1.5,
    True,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    10**5000,
    [],
    {},
    (1, 2, 3),
    ("127.0.0.1", "\ud800"),
    ["127.0.0.1", 5405, 0, 0],
    object(),
    Unshowable(),
)


@attrs.frozen
class Place:
    """What calls are made on: of no type, since what is given is of none that fits."""

    handle: Any
    host: Any
    link: Any
    channel: Any


Call = Callable[[Place, Any], object]


def setting(name: str) -> Call:
    return lambda at, wrong: setattr(at.handle, name, wrong)


def link_option(name: str) -> Call:
    return lambda at, wrong: at.host.add_link(7, HERE, (LOCALHOST, 5406), **{name: wrong})


# What is given a wrong value, by what it is. It may be awaitable.
CALLS: Final[dict[str, Call]] = {
    # The handle.
    "add_host": lambda at, wrong: at.handle.add_host(wrong),
    "add_host name": lambda at, wrong: at.handle.add_host(9, name=wrong),
    "add_host policy": lambda at, wrong: at.handle.add_host(9, policy=wrong),
    "get_host": lambda at, wrong: at.handle.get_host(wrong),
    "open_channel": lambda at, wrong: at.handle.open_channel(wrong),
    "receive_buffer": lambda at, wrong: at.handle.open_channel(5, receive_buffer=wrong),
    "add_datafd": lambda at, wrong: at.handle.add_datafd(0 if wrong is None else wrong),
    "add_datafd channel": lambda at, wrong: at.handle.add_datafd(None, wrong),
    "remove_datafd": lambda at, wrong: at.handle.remove_datafd(wrong),
    "get_datafd": lambda at, wrong: at.handle.get_datafd(wrong),
    "get_channel": lambda at, wrong: at.handle.get_channel(wrong),
    "set_filter": lambda at, wrong: at.handle.set_filter(wrong),
    "set_forwarding": lambda at, wrong: at.handle.set_forwarding(wrong),
    "set_log_level": lambda at, wrong: at.handle.set_log_level(wrong, "info"),
    "set_log_level level": lambda at, wrong: at.handle.set_log_level("link", wrong),
    "get_log_level": lambda at, wrong: at.handle.get_log_level(wrong),
    "clear_statistics": lambda at, wrong: at.handle.clear_statistics(links=wrong),
    "set_crypto": lambda at, wrong: at.handle.set_crypto(wrong),
    "set_crypto slot": lambda at, wrong: at.handle.set_crypto(None, wrong),
    "use_crypto": lambda at, wrong: at.handle.use_crypto(wrong),
    "replace_crypto": lambda at, wrong: at.handle.replace_crypto(wrong),
    "set_compress": lambda at, wrong: at.handle.set_compress(wrong),
    **{
        f"handle.{name}": setting(name)
        for name in (
            "allow_clear_traffic",
            "mtu",
            "pmtud_interval",
            "access_lists",
            "hedge",
            "dscp",
            "reconnect_interval",
            "defrag_buffers",
            "timer_resolution",
        )
    },
    # Hosts and links.
    "host.name": lambda at, wrong: setattr(at.host, "name", wrong),
    "host.policy": lambda at, wrong: setattr(at.host, "policy", wrong),
    "remove_link": lambda at, wrong: at.host.remove_link("0" if wrong == 0 else wrong),
    "add_link": lambda at, wrong: at.host.add_link("1" if wrong == 1 else wrong, HERE, THERE),
    "add_link src": lambda at, wrong: at.host.add_link(7, wrong, THERE),
    "add_link dst": lambda at, wrong: at.host.add_link(7, HERE, "" if wrong is None else wrong),
    **{
        f"add_link {name}": link_option(name)
        for name in (
            "transport",
            "priority",
            "ping_interval",
            "pong_timeout",
            "latency_samples",
            "pong_count",
            "high_priority",
            "enabled",
        )
    },
    "link.enabled": lambda at, wrong: setattr(at.link, "enabled", wrong),
    "link.priority": lambda at, wrong: setattr(at.link, "priority", wrong),
    "link.pong_count": lambda at, wrong: setattr(at.link, "pong_count", wrong),
    "set_ping_timers": lambda at, wrong: at.link.set_ping_timers(wrong, 1.0, 2048),
    "set_ping_timers timeout": lambda at, wrong: at.link.set_ping_timers(0.1, wrong, 2048),
    "set_ping_timers samples": lambda at, wrong: at.link.set_ping_timers(0.1, 1.0, wrong),
    "acl.append": lambda at, wrong: at.link.acl.append(wrong),
    "acl.insert": lambda at, wrong: at.link.acl.insert(0, wrong),
    "acl.insert index": lambda at, wrong: at.link.acl.insert(wrong, AclEntry.address("10.0.0.1")),
    "acl.remove": lambda at, wrong: at.link.acl.remove(wrong),
    # Messages.
    "send": lambda at, wrong: at.channel.send(wrong),
    "send to": lambda at, wrong: at.channel.send(b"x", to=wrong),
    "send to several": lambda at, wrong: at.channel.send(b"x", to=[2, wrong]),
    "send_nowait": lambda at, wrong: at.channel.send_nowait(wrong),
    "send_nowait to": lambda at, wrong: at.channel.send_nowait(b"x", to=wrong),
    "send_many": lambda at, wrong: at.channel.send_many(wrong),
    "send_many one": lambda at, wrong: at.channel.send_many([wrong]),
    "send_sync": lambda at, wrong: at.channel.send_sync(wrong, to=2),
    "send_sync to": lambda at, wrong: at.channel.send_sync(b"x", to=wrong),
    "receive_many": lambda at, wrong: at.channel.receive_many(min_of(wrong)),
    # Records and functions.
    "AclEntry": lambda _, wrong: AclEntry(wrong, wrong),
    "AclEntry.address": lambda _, wrong: AclEntry.address(wrong),
    "AclEntry.network": lambda _, wrong: AclEntry.network(wrong),
    "AclEntry.range": lambda _, wrong: AclEntry.range("10.0.0.1", wrong),
    "AclEntry accept": lambda _, wrong: AclEntry.address("10.0.0.1", accept=wrong),
    "CryptoConfig": lambda _, wrong: CryptoConfig(wrong),
    "CryptoConfig cipher": lambda _, wrong: CryptoConfig(KEY, cipher=wrong),
    "CryptoConfig hash": lambda _, wrong: CryptoConfig(KEY, hash=wrong),
    "CryptoConfig model": lambda _, wrong: CryptoConfig(KEY, model=wrong),
    "CompressConfig": lambda _, wrong: CompressConfig(wrong),
    "CompressConfig level": lambda at, wrong: at.handle.set_compress(CompressConfig("lz4", wrong)),
    "CompressConfig threshold": lambda _, wrong: CompressConfig("zlib", threshold=wrong),
    "LinkConfig src": lambda _, wrong: LinkConfig(0, wrong, None),
    "LinkConfig dst": lambda _, wrong: LinkConfig(0, HERE, wrong),
    "DefragBuffers": lambda _, wrong: DefragBuffers(wrong, wrong),
    "Unicast": lambda _, wrong: Unicast(wrong),
    "format_address": lambda _, wrong: knet_trio.format_address(wrong),
    "parse_address": lambda _, wrong: knet_trio.parse_address(wrong, 1),
    "parse_address port": lambda _, wrong: knet_trio.parse_address("10.0.0.1", wrong),
    "get_transport_name": lambda _, wrong: knet_trio.get_transport_name(wrong),
    "get_transport_id": lambda _, wrong: knet_trio.get_transport_id(wrong),
    "get_log_subsystem_name": lambda _, wrong: knet_trio.get_log_subsystem_name(wrong),
    "get_log_subsystem_id": lambda _, wrong: knet_trio.get_log_subsystem_id(wrong),
    "get_log_level_name": lambda _, wrong: knet_trio.get_log_level_name(wrong),
    "get_log_level_id": lambda _, wrong: knet_trio.get_log_level_id(wrong),
}


def check_text(error: KnetError) -> None:
    """Fail if an error shows too much of what was wrong. A list of what there is may be long."""
    assert len(str(error)) < 700


def min_of(limit: object) -> object:
    """A limit that is one makes ``receive_many`` wait."""
    waits = limit is None or (type(limit) is int and limit > 0)
    return 0 if waits else limit


async def attempt(call: Call, place: Place, wrong: object) -> bool:
    """Whether the call takes the value; fail if it raises what is no error of this package."""
    try:
        answer = call(place, wrong)
        if inspect.isawaitable(answer):
            answer = await answer
    except KnetError as error:
        check_text(error)
        return False
    if isinstance(answer, Link) or (isinstance(answer, Host) and answer is not place.host):
        await answer.remove()
    elif isinstance(answer, Channel):
        answer.close()
    elif isinstance(answer, knet_trio.Datafd):
        place.handle.remove_datafd(answer.fd)
    return True


@pytest.mark.parametrize("name", CALLS)
async def test_a_wrong_value_is_an_error_of_this_package_and_changes_nothing(name: str) -> None:
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        link = await host.add_link(0, HERE, THERE, enabled=False)
        place = Place(handle, host, link, handle.open_channel(0))
        for wrong in WRONG:
            before = (dict(handle.hosts), dict(host.links), link.config, host.name, list(link.acl))
            if not await attempt(CALLS[name], place, wrong):
                after = (dict(handle.hosts), dict(host.links), link.config, host.name)
                assert (*after, list(link.acl)) == before


OPTIONS: Final = tuple(inspect.signature(open_handle).parameters)


@pytest.mark.parametrize("name", OPTIONS)
async def test_a_wrong_option_of_a_handle_is_an_error_of_this_package(name: str) -> None:
    for wrong in WRONG:
        options: dict[str, Any] = {"host_id": 1, name: wrong}
        try:
            async with open_handle(**options):
                pass
        except KnetError as error:
            check_text(error)


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    logger = logging.getLogger("knet_trio")
    level = logger.level
    yield
    logger.setLevel(level)


WORDS: Final[list[tuple[Callable[[Place], object], str]]] = [
    (lambda at: at.link.acl.append("10.0.0.1"), r"write AclEntry\.address\('10\.0\.0\.1'\)"),
    (lambda at: at.link.acl.insert(0, "10.0.0.1"), "is not an AclEntry"),
    (lambda at: at.link.acl.remove("10.0.0.1"), "is not an AclEntry"),
    (lambda at: at.handle.set_compress("lz4"), r"write CompressConfig\('lz4'\)"),
    (lambda at: at.handle.set_filter(5), "not callable: give a function"),
    (lambda at: at.handle.add_host(9, name=5), "is text, and 5 is not"),
    (lambda at: at.handle.add_host(9, name=""), "1 to 255 bytes"),
    (lambda at: at.handle.add_host(9, name="\u20ac" * 86), "this one has 258"),
    (lambda at: at.handle.add_host(9, name="\ud800"), "cannot be encoded as UTF-8"),
    (lambda at: at.handle.add_host(9, name="a\0b"), "a zero byte"),
    (lambda at: at.handle.add_host(9, policy="passive"), r"LinkPolicy\.PASSIVE, .*ROUND_ROBIN"),
    (lambda at: at.handle.add_host(2), r"get_host\(2\) returns it"),
    (lambda at: at.handle.get_host("nobody"), r"it has 2 \(beta\); add_host\(host_id, name="),
    (lambda at: at.handle.get_host("2"), "host 2 is called 'beta': ids are integers"),
    (lambda at: at.handle.get_host(70000), "ids are 0 to 65535"),
    (lambda at: at.channel.send_nowait(b"x", to="2"), "ids are integers, without quotes"),
    (lambda at: at.channel.send_nowait("x"), "bytes, not str: encode it"),
    (lambda at: at.channel.send_many(b"abc"), "give a list of messages, or use send"),
    (lambda at: at.channel.send_many(None), "give a list of messages"),
    (lambda at: at.channel.receive_many("x"), "give 1 or more, or None"),
    (lambda at: at.channel.receive_many(True), "give 1 or more, or None"),
    (lambda at: at.host.add_link(1, "10.0.0.1", THERE), "has no port: append it after a colon"),
    (lambda at: at.host.add_link(1, HERE, "fd00::1:5405"), "put an IPv6 address in brackets"),
    (lambda at: at.host.add_link(1, HERE, "[fd00::1"), "write '\\['"),
    (lambda at: at.host.add_link(1, HERE, "10.0.0.1:http"), "the port .* is not a number"),
    (lambda at: at.host.add_link(1, HERE, ("::ffff:10.0.0.1", 5)), "write '10.0.0.1'"),
    (lambda at: at.host.add_link(1, HERE, (LOCALHOST, 0)), "has no port: give the one"),
    (lambda at: at.host.add_link(1, HERE, ("0.0.0.0", 5)), "give an address of the peer"),
    (lambda at: at.host.add_link(1, ("::1", 0), ("::", 5)), "give an address of the peer"),
    (lambda at: at.host.add_link(1, HERE, ("224.0.0.1", 5)), "give an address of the peer"),
    (lambda at: at.host.add_link(1, ("::1", 0), ("ff02::1", 5)), "give an address of the peer"),
    (lambda at: at.host.add_link(1, HERE, ("255.255.255.255", 5)), "give an address of the peer"),
    (lambda at: at.host.add_link(1, ("224.0.0.1", 0)), "give an address of this machine"),
    (lambda at: at.host.add_link(1, THERE, THERE), "leads to itself"),
    (lambda at: at.host.add_link(1, ("0.0.0.0", 5405), THERE), "leads to itself"),
    (lambda at: at.host.remove_link(3), "of those it has: 0"),
]


@pytest.mark.parametrize(("call", "words"), WORDS)
async def test_an_error_says_what_to_do(call: Callable[[Place], object], words: str) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2, name="beta")
        link = await host.add_link(0, HERE, THERE)
        place = Place(handle, host, link, handle.open_channel(0))
        with (
            pytest.raises(InvalidArgumentError, match=words)
            if "returns" not in words
            else (pytest.raises(KnetError, match=words))
        ):
            answer = call(place)
            if inspect.isawaitable(answer):
                await answer
        assert list(host.links) == [0]
        assert list(handle.hosts) == [2]


async def test_a_value_that_may_be_a_key_is_not_shown() -> None:
    async with open_handle(1) as handle:
        wrong: Any = "secret"
        for call in (handle.set_crypto, handle.replace_crypto):
            with pytest.raises(InvalidArgumentError, match=r"write CryptoConfig\(key=") as caught:
                call(wrong)
            assert "secret" not in str(caught.value)


async def test_an_asynchronous_generator_is_no_list_of_messages() -> None:
    async def generate() -> AsyncIterator[bytes]:
        yield b"x"

    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="async for data in"):
            await handle.open_channel(0).send_many(generate())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class TestNames:
    async def test_a_name_may_be_a_number_as_long_as_no_host_has_it(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2, name="3")
            assert handle.get_host("3") is host
            with pytest.raises(knet_trio.AlreadyExistsError, match="give one of them another name"):
                handle.add_host(3)
            gamma = handle.add_host(3, name="gamma")
            assert handle.get_host(3) is gamma
            assert handle.get_host("3") is host

    async def test_the_number_of_another_host_is_its_name_until_it_gets_one(self) -> None:
        async with open_handle(1) as handle:
            host, gamma = handle.add_host(2), handle.add_host(3)
            with pytest.raises(knet_trio.AlreadyExistsError, match="names are unique"):
                host.name = "3"
            gamma.name = "gamma"
            host.name = "3"
            assert handle.get_host("3") is host


class TestAddresses:
    async def test_text_is_taken_wherever_a_pair_is(self) -> None:
        port = free_udp_port()
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, f"{LOCALHOST}:{port}", "127.0.0.2:5405")
            assert link.config.src == (LOCALHOST, port)
            assert link.config.dst == ("127.0.0.2", 5405)
            other = await host.add_link(1, "[::1]:0", "[::1]:5405")
            assert knet_trio.format_address(other.config.src) == f"[::1]:{other.config.src.port}"

    async def test_a_second_link_with_the_same_addresses_is_warned_of(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
            await host.add_link(1, link.config.src, (LOCALHOST, 5406))
            await handle.add_host(3).add_link(0, link.config.src, THERE)
            assert "same addresses" not in caplog.text
            await host.add_link(2, link.config.src, THERE)
            assert "link 2 to host 2 has the same addresses as link 0" in caplog.text

    async def test_a_loopback_link_may_lead_to_where_it_is(self) -> None:
        async with open_handle(1) as handle:
            link = await handle.add_host(1).add_link(0, THERE, THERE, transport="loopback")
            assert link.config.dst == THERE
