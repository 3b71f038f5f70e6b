"""The same for the calls that are about access lists, addresses and transports."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

from knet_trio import (
    AclEntry,
    format_address,
    get_transport_id,
    get_transport_name,
    parse_address,
)
from tests.interop.arguments import Case, Here, There, call, case, same
from tests.interop.both_sides import DYNAMIC, STATIC, TAKEN, CSide
from tests.interop.libknet import SONAME, sockaddr_storage


def acl(make: Callable[[], AclEntry], index: int | None = None) -> Here:
    return lambda o: o.acl(make(), index)


def access_lists() -> Iterator[Case]:
    """Access lists: the entries that are tried first are there for the next."""
    add, address = "link_add_acl", AclEntry.address
    ten = "10.0.0.1"
    yield same(add, "one", TAKEN, lambda c: c.acl("add", ten), acl(lambda: address(ten)))
    yield same(add, "it again", "EEXIST", lambda c: c.acl("add", ten), acl(lambda: address(ten)))
    yield case(
        add,
        "it rejected",
        TAKEN,
        "EEXIST",
        "Addresses that have an entry are EEXIST, in C only if it says the same",
        lambda c: c.acl("add", ten, accept=False),
        acl(lambda: address(ten, accept=False)),
    )
    yield same(
        add,
        "two IP versions",
        "EINVAL",
        lambda c: c.acl("add", ten, "::1", kind="range"),
        acl(lambda: AclEntry.range(ten, "::1")),
    )
    yield same(
        add,
        "IPv6 on an IPv4 link",
        TAKEN,
        lambda c: c.acl("add", "::1"),
        acl(lambda: address("::1")),
    )
    loose = "is EINVAL, C takes them"
    for what, kind, first, second, make in (
        ("host bits", "mask", "10.0.0.5", "255.255.255.0", lambda: AclEntry.network("10.0.0.5/24")),
        (
            "a mask with gaps",
            "mask",
            "10.0.0.0",
            "255.0.255.0",
            lambda: AclEntry.network("10.0.0.0/255.0.255.0"),
        ),
        (
            "from high to low",
            "range",
            "10.0.0.9",
            "10.0.0.2",
            lambda: AclEntry.range("10.0.0.9", "10.0.0.2"),
        ),
        ("mapped", "address", "::ffff:10.0.0.1", None, lambda: address("::ffff:10.0.0.1")),
    ):
        yield case(
            add,
            what,
            TAKEN,
            "EINVAL",
            loose,
            lambda c, f=first, s=second, k=kind: c.acl("add", f, s, kind=k),  # type: ignore[misc]
            acl(make),
        )
    yield case(
        add,
        "on a static link",
        "EINVAL",
        TAKEN,
        "Static links are EINVAL in C",
        lambda c: c.acl("add", ten, link_id=STATIC),
        lambda o: o.static.acl.append(address(ten)),
    )
    for number, (index, in_c, here) in enumerate(
        ((0, TAKEN, TAKEN), (1, TAKEN, TAKEN), (99, TAKEN, "EINVAL"), (-1, TAKEN, "EINVAL"))
    ):
        one = f"10.1.0.{number}"
        yield case(
            "link_insert_acl",
            f"{index}",
            in_c,
            here,
            None if in_c == here else "else EINVAL; C takes every number, and -1 appends",
            lambda c, a=one, i=index: c.acl("insert", a, index=i),  # type: ignore[misc]
            acl(lambda a=one: address(a), index),  # type: ignore[misc]
        )
    remove = "link_rm_acl"
    yield same(remove, "add it", TAKEN, lambda c: c.acl("add", ten), acl(lambda: address(ten)))
    for what, answer, accept in (
        ("it rejected", "ENOENT", False),
        ("it", TAKEN, True),
        ("it again", "ENOENT", True),
    ):
        yield same(
            remove,
            what,
            answer,
            lambda c, a=accept: c.acl("rm", ten, accept=a),  # type: ignore[misc]
            lambda o, a=accept: o.dynamic.acl.remove(address(ten, accept=a)),  # type: ignore[misc]
        )
    clear = "link_clear_acl"
    yield same(clear, "dynamic", TAKEN, call(clear, 2, DYNAMIC), lambda o: o.dynamic.acl.clear())
    yield case(
        clear,
        "static",
        "EINVAL",
        TAKEN,
        "Static links are EINVAL in C",
        call(clear, 2, STATIC),
        lambda o: o.static.acl.clear(),
    )


def resolve(host: str, port: str) -> There:
    """Ask C; what getaddrinfo says is no errno."""

    def ask(_: CSide) -> None:
        place = ctypes.create_string_buffer(128)
        if ctypes.CDLL(SONAME).knet_strtoaddr(host.encode(), port.encode(), place, 128):
            raise OSError(0, "not an address")

    return ask


def addresses() -> Iterator[Case]:
    """Texts and what they stand for."""
    name = "strtoaddr"
    refused = "EINVAL, in C what getaddrinfo returns"
    alone = "Short or octal forms such as `127.1` and `010.0.0.1`, or an empty port, are EINVAL"
    for host, port, in_c, here, says in (
        ("10.0.0.1", "5405", TAKEN, TAKEN, None),
        ("fd00::1", "0", TAKEN, TAKEN, None),
        ("10.0.0.1", "65536", TAKEN, "EINVAL", "in C only its low 16 bits count"),
        ("10.0.0.1", "-1", "no errno", "EINVAL", refused),
        ("10.0.0.1", "http", "no errno", "EINVAL", refused),
        ("localhost", "1", "no errno", "EINVAL", "1.25 does not either, against its page"),
        ("127.1", "1", TAKEN, "EINVAL", alone),
        ("010.0.0.1", "1", TAKEN, "EINVAL", alone),
        ("10.0.0.1", "", TAKEN, "EINVAL", alone),
        ("fe80::1", "1", TAKEN, "EINVAL", "IPv6 link-local addresses need their interface"),
        ("::ffff:10.0.0.1", "1", TAKEN, "EINVAL", "IPv4-mapped ones must be written as IPv4"),
    ):
        yield case(
            name,
            f"{host} {port}",
            in_c,
            here,
            says,
            resolve(host, port),
            lambda _, h=host, p=port: parse_address(h, p),  # type: ignore[misc]
        )
    yield case(
        "addrtostr",
        "of no family",
        "no errno",
        "EINVAL",
        "EINVAL, in C what getnameinfo returns",
        to_text(ctypes.create_string_buffer(128)),
        lambda _: format_address(()),  # type: ignore[arg-type]
    )
    yield same(
        "addrtostr",
        "a good one",
        TAKEN,
        to_text(sockaddr_storage("10.0.0.1", 1)),
        lambda _: format_address(("10.0.0.1", 1)),
    )
    for transport, in_c, here, says in (
        ("UDP", TAKEN, TAKEN, None),
        ("udp", "EINVAL", TAKEN, "C knows names in capitals only"),
        ("pigeons", "EINVAL", "EINVAL", None),
    ):
        yield case(
            "get_transport_id_by_name",
            transport,
            in_c,
            here,
            says,
            c_transport_id(transport),
            lambda _, t=transport: get_transport_id(t),  # type: ignore[misc]
        )
    for number, in_c, here, says in (
        (1, TAKEN, TAKEN, None),
        (2, TAKEN, TAKEN, None),
        (3, "ENOENT", "EINVAL", "C returns NULL with ENOENT"),
        (255, "EINVAL", "EINVAL", None),
    ):
        yield case(
            "get_transport_name_by_id",
            f"{number}",
            in_c,
            here,
            says,
            c_transport_name(number),
            lambda _, n=number: get_transport_name(n),  # type: ignore[misc]
        )


def to_text(storage: ctypes.Array[ctypes.c_char]) -> There:
    def ask(_: CSide) -> None:
        host, port = ctypes.create_string_buffer(256), ctypes.create_string_buffer(6)
        if ctypes.CDLL(SONAME).knet_addrtostr(storage, 128, host, 256, port, 6):
            raise OSError(0, "no text")

    return ask


def c_transport_id(name: str) -> There:
    def ask(_: CSide) -> None:
        library = ctypes.CDLL(SONAME, use_errno=True)
        library.knet_get_transport_id_by_name.restype = ctypes.c_uint8
        if library.knet_get_transport_id_by_name(name.encode()) == 255:
            raise OSError(ctypes.get_errno(), name)

    return ask


def c_transport_name(number: int) -> There:
    def ask(_: CSide) -> None:
        library = ctypes.CDLL(SONAME, use_errno=True)
        library.knet_get_transport_name_by_id.restype = ctypes.c_char_p
        if library.knet_get_transport_name_by_id(number) is None:
            raise OSError(ctypes.get_errno(), f"{number}")

    return ask


def cases_of_addresses() -> Iterator[Case]:
    """All of them, those of each call in the order in which they are to be tried."""
    yield from access_lists()
    yield from addresses()
