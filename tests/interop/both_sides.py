"""The C library and ours with the same hosts, links and channels, to be asked the same things."""

from __future__ import annotations

import ctypes
import errno
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from knet_trio import AclEntry, Channel, FilterPacket, Handle, Host, KnetError, Link, open_handle
from tests.interop import libknet
from tests.ports import free_udp_port

TAKEN: Final = "taken"
"""In the place of an errno: there was no error."""

STATIC: Final = 0
DYNAMIC: Final = 1
UDP: Final = "udp"
LOCAL: Final = "127.0.0.1"
PEER: Final = ("127.0.0.2", 5)

# A number that no descriptor has: they are given from the lowest.
NO_FD: Final = 987

Endpoint = tuple[str, int]


def errno_name(number: int) -> str:
    return errno.errorcode[number] if number else "no errno"


def ignore(fd: int, channel: int, tx_rx: int, error: int, code: int) -> None:
    """The callback without which there are no data fds."""
    del fd, channel, tx_rx, error, code


class CSide:
    """A handle of the C library: host 1 with hosts 2 and 3, 2 with a static and a dynamic link.

    Channel 0 has a data fd, and forwarding is on.
    """

    def __init__(self, handle: libknet.Handle) -> None:
        self.handle = handle
        self.call = handle.call
        handle.on_socket(ignore)
        for host_id in (2, 3):
            handle.call("knet_host_add", host_id)
        port = free_udp_port()
        handle.link_set_config(2, STATIC, (LOCAL, port), PEER, transport=1, flags=0)
        self.used = (LOCAL, port)
        handle.link_set_config(2, DYNAMIC, (LOCAL, free_udp_port()), None, transport=1, flags=0)
        self.fd, _ = handle.add_datafd(0)
        handle.call("knet_handle_setfwd", 1)

    def add_link(
        self,
        src: Endpoint | None = None,
        dst: Endpoint | None = PEER,
        *,
        host_id: int = 3,
        link_id: int = 0,
        transport: str = UDP,
    ) -> None:
        """Configure a link, by default one that is good."""
        self.handle.link_set_config(
            host_id,
            link_id,
            src or (LOCAL, free_udp_port()),
            dst,
            transport=libknet.TRANSPORTS.get(transport, 9),
            flags=0,
        )

    def ping_timers(self, interval: int, timeout: int, samples: int) -> None:
        self.call("knet_link_set_ping_timers", 2, STATIC, interval, timeout, samples)

    def acl(
        self,
        what: str,
        first: str,
        second: str | None = None,
        *,
        kind: str = "address",
        accept: bool = True,
        index: int | None = None,
        link_id: int = DYNAMIC,
    ) -> None:
        """Edit an access list: what is "add", "insert" or "rm"."""
        at = () if index is None else (index,)
        low = libknet.sockaddr_storage(first, 0)
        high = None if second is None else libknet.sockaddr_storage(second, 0)
        number = libknet.ACL_TYPES[kind]
        name = f"knet_link_{what}_acl"
        self.call(name, 2, link_id, *at, low, high, number, 0 if accept else 1)

    def crypto(
        self,
        model: str = "openssl",
        cipher: str = "aes256",
        hash: str = "sha256",
        *,
        size: int = 256,
        slot: int | None = 2,
    ) -> None:
        """Set a configuration; without a slot by the call that has none."""
        config = self.handle.crypto_config(model, cipher, hash, bytes(min(size, 4096)))
        config.private_key_len = size
        if slot is None:
            self.call("knet_handle_crypto", ctypes.byref(config))
        else:
            self.call("knet_handle_crypto_set_config", ctypes.byref(config), slot)

    def add_datafd(self, fd: int, channel: int) -> None:
        number, at = ctypes.c_int(fd), ctypes.c_int8(channel)
        self.call("knet_handle_add_datafd", ctypes.byref(number), ctypes.byref(at))

    def send(self, size: int, channel: int = 0) -> None:
        self.call("knet_send", bytes(max(size, 1)), size, channel)

    def send_sync(self, hosts: list[int] | None, *, everybody: bool = False) -> None:
        """Send to what a filter answers; None is its error."""

        def decide(*_: Any) -> tuple[list[int] | None, int] | None:
            return (None, 0) if everybody else None if hosts is None else (hosts, 0)

        self.handle.set_filter(decide)
        try:
            self.handle.send_sync(b"x", 0)
        finally:
            self.handle.set_filter(None)

    def got(self, name: str, *arguments: int) -> int:
        """What a call writes to its last argument."""
        found = ctypes.c_uint32(0)
        self.call(name, *arguments, ctypes.byref(found))
        return found.value


@contextmanager
def open_c_side() -> Generator[CSide]:
    handle = libknet.Handle(1)
    try:
        yield CSide(handle)
    finally:
        handle.free()


class OurSide:
    """A handle of ours that is like that of ``CSide``."""

    def __init__(self, handle: Handle, host: Host, channel: Channel, fd: int) -> None:
        # Of no type: what is given is often of none that fits.
        self.handle: Any = handle
        self.host: Any = host
        self.channel: Any = channel
        self.fd = fd

    @property
    def static(self) -> Link:
        return self.host.links[STATIC]  # type: ignore[no-any-return]

    @property
    def dynamic(self) -> Link:
        return self.host.links[DYNAMIC]  # type: ignore[no-any-return]

    async def add_link(
        self,
        src: Endpoint | None = None,
        dst: Endpoint | None = PEER,
        *,
        host_id: int = 3,
        link_id: int = 0,
        transport: str = UDP,
    ) -> None:
        source = src or (LOCAL, free_udp_port())
        host = self.handle.get_host(host_id)
        await host.add_link(link_id, source, dst, transport=transport, enabled=False)

    def acl(self, entry: AclEntry, index: int | None = None) -> None:
        if index is None:
            self.dynamic.acl.append(entry)
        else:
            self.dynamic.acl.insert(index, entry)

    async def send_sync(self, answer: Callable[[], object]) -> None:
        def decide(_: FilterPacket) -> object:
            return answer()

        self.handle.set_filter(decide)
        try:
            await self.channel.send_sync(b"x")
        finally:
            self.handle.set_filter(None)


@asynccontextmanager
async def open_our_side() -> AsyncGenerator[OurSide, None]:
    async with open_handle(1, access_lists=False) as handle:
        host = handle.add_host(2)
        handle.add_host(3)
        await host.add_link(STATIC, (LOCAL, free_udp_port()), PEER, enabled=False)
        await host.add_link(DYNAMIC, (LOCAL, free_udp_port()), None, enabled=False)
        fd = handle.add_datafd(None, 1).fd
        yield OurSide(handle, host, handle.open_channel(0), fd)


def c_answer(ask: Callable[[CSide], object], side: CSide) -> str:
    """The name of the errno, with "-2" before it where C says that it is none."""
    try:
        ask(side)
    except OSError as error:
        name = errno_name(error.errno or 0)
        return f"-2 {name}" if "returned -2" in str(error) else name
    return TAKEN


async def our_answer(ask: Callable[[OurSide], object], side: OurSide) -> str:
    """The name of the errno."""
    try:
        answer = ask(side)
        if inspect.isawaitable(answer):
            await answer
    except KnetError as error:
        return errno_name(error.errno)
    return TAKEN
