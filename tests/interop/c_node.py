"""A node run by the C library, in a process of its own, as a Trio object.

    async with open_c_node(2) as c:
        await c.add_host(1)
        await c.add_link(1, 0, ("127.0.0.1", 5405), ("127.0.0.1", 5406))
        await c.wait_reachable(1)
        await c.send(b"hello")

An error of libknet is raised here as the same `OSError`. When the process has ended, every call
raises `CNodeDiedError` with what the process last said. There is no restart: open another node.
Nothing here has a time limit: the tests have `trio.fail_after`.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import trio

from tests.interop.c_client import CNodeDiedError, CProcess, LogLine
from tests.interop.namespaces import within

ROOT: Final = Path(__file__).resolve().parents[2]
# Seconds between two looks at a link.
LINK_POLL: Final = 0.02
# The module that a C node runs.
LIBKNET: Final = f"{__package__}.c_process"

__all__ = [
    "LIBKNET",
    "Address",
    "CCrypto",
    "CNode",
    "CNodeDiedError",
    "LogLine",
    "open_c_node",
]

Address = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class CCrypto:
    """What `open_c_node` puts in slot 1 and uses. The key has 128 to 4096 bytes."""

    key: bytes
    cipher: str = "aes256"
    hash: str = "sha256"
    model: str = "openssl"


class CNode(CProcess):
    """The commands of one C node. Made by `open_c_node`."""

    def __init__(self, host_id: int, process: trio.Process) -> None:
        super().__init__(host_id, process)
        self._stream = 0

    # Hosts

    async def add_host(
        self, host_id: int, *, name: str | None = None, policy: str = "passive"
    ) -> None:
        await self.call("add_host", host_id=host_id)
        if name is not None:
            await self.call("set_name", host_id=host_id, name=name)
        if policy != "passive":
            await self.set_policy(host_id, policy)

    async def remove_host(self, host_id: int) -> None:
        await self.call("remove_host", host_id=host_id)
        self.reachable.pop(host_id, None)

    async def set_policy(self, host_id: int, policy: str | int) -> None:
        """`passive`, `active` or `round-robin` (or a number, to see it refused)."""
        await self.call("set_policy", host_id=host_id, policy=policy)

    async def host_status(self, host_id: int) -> dict[str, Any]:
        """The fields of `knet_host_status`."""
        result: dict[str, Any] = await self.call("host_status", host_id=host_id)
        return result

    # Links

    async def add_link(
        self,
        host_id: int,
        link_id: int,
        src: Address,
        dst: Address | None,
        *,
        priority: int = 0,
        ping_interval: float = 0.2,
        pong_timeout: float = 1.0,
        precision: int = 2048,
        pong_count: int = 1,
        transport: str = "udp",
        high_priority: bool = False,
        enabled: bool = True,
    ) -> None:
        """Configure a link and enable it. `dst=None`: dynamic. Transports: udp, sctp, loopback."""
        link = {"host_id": host_id, "link_id": link_id}
        await self.call(
            "set_link_config",
            **link,
            src=src,
            dst=dst,
            transport=transport,
            high_priority=high_priority,
        )
        if transport != "loopback":
            await self.set_ping_timers(
                host_id,
                link_id,
                ping_interval=ping_interval,
                pong_timeout=pong_timeout,
                precision=precision,
            )
            await self.call("set_pong_count", **link, pong_count=pong_count)
        if priority:
            await self.set_priority(host_id, link_id, priority)
        if enabled:
            await self.set_link_enable(host_id, link_id, True)

    async def set_ping_timers(
        self,
        host_id: int,
        link_id: int,
        *,
        ping_interval: float,
        pong_timeout: float,
        precision: int = 2048,
    ) -> None:
        """Seconds here, whole milliseconds in C."""
        await self.call(
            "set_ping_timers",
            host_id=host_id,
            link_id=link_id,
            interval=round(ping_interval * 1000),
            timeout=round(pong_timeout * 1000),
            precision=precision,
        )

    async def set_link_enable(self, host_id: int, link_id: int, enabled: bool) -> None:
        await self.call("set_link_enable", host_id=host_id, link_id=link_id, enabled=enabled)

    async def clear_link(self, host_id: int, link_id: int) -> None:
        """Disable a link and forget its configuration."""
        await self.set_link_enable(host_id, link_id, False)
        await self.call("clear_link", host_id=host_id, link_id=link_id)

    async def set_priority(self, host_id: int, link_id: int, priority: int) -> None:
        await self.call("set_priority", host_id=host_id, link_id=link_id, priority=priority)

    async def add_acl(
        self,
        host_id: int,
        link_id: int,
        kind: str,
        first: str,
        second: str | None = None,
        *,
        accept: bool = True,
    ) -> None:
        """Append to a dynamic link's access list. Kinds: address, mask (second: mask), range."""
        await self.call(
            "add_acl",
            host_id=host_id,
            link_id=link_id,
            kind=kind,
            first=first,
            second=second,
            accept=accept,
        )

    async def link_status(self, host_id: int, link_id: int) -> dict[str, Any]:
        """The fields of `knet_link_status`, `stats` with those of `knet_link_stats`."""
        result: dict[str, Any] = await self.call("link_status", host_id=host_id, link_id=link_id)
        return result

    # The handle

    async def set_crypto(
        self, model: str, cipher: str, hash: str, key: bytes, slot: int = 1
    ) -> None:
        """Fill a slot (`knet_handle_crypto_set_config`). Model `none` empties it."""
        await self.call("set_crypto", **_crypto(model, cipher, hash, key), slot=slot)

    async def use_crypto(self, slot: int) -> None:
        """Send with slot 1 or 2, or in clear (0)."""
        await self.call("use_crypto", slot=slot)

    async def handle_crypto(self, model: str, cipher: str, hash: str, key: bytes) -> None:
        """The older one-call form (`knet_handle_crypto`)."""
        await self.call("handle_crypto", **_crypto(model, cipher, hash, key))

    async def clear_traffic(self, allow: bool) -> None:
        """Whether packets in clear are received while crypto is on."""
        await self.call("clear_traffic", allow=allow)

    async def set_compress(self, model: str, level: int = 0, threshold: int = 0) -> None:
        """Model `none` ends it; threshold 0 is libknet's default, 1 compresses everything."""
        await self.call("set_compress", model=model, level=level, threshold=threshold)

    async def set_forwarding(self, enabled: bool) -> None:
        await self.call("set_forwarding", enabled=enabled)

    async def set_access_lists(self, enabled: bool) -> None:
        await self.call("set_access_lists", enabled=enabled)

    async def set_filter(
        self,
        target: str | Sequence[int] | None,
        *,
        rx: str | Sequence[int] = "broadcast",
        tx_channel: int | None = None,
        rx_channel: int | None = None,
        only: bytes | None = None,
    ) -> None:
        """Answer every message alike: `broadcast`, `error` (libknet's -1) or unicast to host ids.

        `target` is for sending, `rx` for receiving, the channels what they are changed to;
        None takes the filter away. With `only` it is so for messages that are these bytes, and all
        others are for everybody.
        """
        await self.call(
            "set_filter",
            target=target,
            rx=rx,
            tx_channel=tx_channel,
            rx_channel=rx_channel,
            only=None if only is None else _text(only),
        )

    async def set_pmtud_interval(self, seconds: int) -> None:
        await self.call("set_pmtud_interval", seconds=seconds)

    async def set_mtu(self, interface_mtu: int) -> None:
        """A fixed interface MTU in the place of discovery; 0 discovers again."""
        await self.call("set_mtu", interface_mtu=interface_mtu)

    async def add_channel(self, channel: int = -1) -> int:
        """Open a data channel (-1: the first free one); which one it is."""
        result: int = await self.call("add_channel", channel=channel)
        return result

    async def data_mtu(self) -> int:
        """Application bytes that one packet carries, as `knet_handle_pmtud_get` says now."""
        result: int = await self.call("data_mtu")
        return result

    async def statistics(self) -> dict[str, Any]:
        """The fields of `knet_handle_stats`."""
        result: dict[str, Any] = await self.call("statistics")
        return result

    async def clear_statistics(self, *, links: bool = True) -> None:
        """Set them to zero, and with `links` those of every link."""
        await self.call("clear_statistics", links=links)

    # Messages

    async def send(self, data: bytes, channel: int = 0) -> None:
        await self.call("send", data=_text(data), channel=channel)

    async def send_many(self, datas: Iterable[bytes], channel: int = 0) -> None:
        await self.call("send_many", datas=[_text(data) for data in datas], channel=channel)

    async def send_sync(self, data: bytes, channel: int = 0) -> None:
        """`knet_send_sync`, which needs a filter that answers one host."""
        await self.call("send_sync", data=_text(data), channel=channel)

    async def start_stream(
        self, count: int, size: int, *, interval: float = 0.0, start: int = 0, channel: int = 0
    ) -> None:
        """Send `count` messages of `size` bytes, `interval` seconds apart, while others go on.

        Each begins with its number, from `start`, as 8 bytes in network order; zeros follow.
        """
        self._stream = await self.call(
            "send_numbered",
            count=count,
            size=size,
            interval_seconds=interval,
            start=start,
            channel=channel,
        )

    async def stop_stream(self) -> int:
        """End the stream if it still runs; how many messages it handed to libknet."""
        result: int = await self.call("stop_stream")
        return result

    async def wait_stream_done(self) -> int:
        """Until the latest stream has ended; how many messages it handed to libknet."""
        event = await self.wait_event(lambda event: event.get("stream") == self._stream)
        if event["error"] is not None:
            raise OSError(event["error"]["errno"], event["error"]["message"])
        return int(event["sent"])

    # Waiting

    async def wait_reachable(self, host_id: int) -> None:
        """Until the last host status that libknet notified is reachable."""
        await self.wait_until(lambda: self.reachable.get(host_id, False))

    async def wait_unreachable(self, host_id: int) -> None:
        """Until it is not; also when it never was."""
        await self.wait_until(lambda: not self.reachable.get(host_id, False))

    async def wait_data_mtu(self, wanted: int | Callable[[int], bool]) -> int:
        """Until the data MTU is that, or fulfils that; what it is then."""

        def fulfilled() -> bool:
            return wanted(self.last_data_mtu) if callable(wanted) else self.last_data_mtu == wanted

        await self.wait_until(fulfilled)
        return self.last_data_mtu

    async def wait_link(
        self, host_id: int, link_id: int, condition: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """Until the status of a link fulfils the condition; that status."""
        # No event to wait for: libknet 1.25 notifies of hosts, not of links.
        while not condition(status := await self.link_status(host_id, link_id)):  # noqa: ASYNC110
            await trio.sleep(LINK_POLL)
        return status


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _crypto(model: str, cipher: str, hash: str, key: bytes) -> dict[str, Any]:
    return {"model": model, "cipher": cipher, "hash": hash, "key": _text(key)}


@asynccontextmanager
async def open_c_node(
    host_id: int,
    *,
    namespace: str | None = None,
    crypto: CCrypto | None = None,
    channels: Iterable[int] = (0,),
    forwarding: bool = True,
    log_level: str = "warning",
    privileged: bool = False,
    program: str = LIBKNET,
) -> AsyncGenerator[CNode, None]:
    """A C node in a process of its own, in the named network namespace if there is one.

    It has the channels open, forwards, and uses the crypto. The process is gone when the block
    ends, however it ends. Log levels: error, warning, info, debug. `program` is another module
    that takes the same commands, run in the place of libknet.
    """
    options = {"host_id": host_id, "log_level": log_level, "privileged": privileged}
    command = [sys.executable, "-m", program, json.dumps(options)]
    if namespace is not None:
        # The process becomes the command: signals to it reach the node itself.
        command = within(namespace, *command)
    process = await trio.lowlevel.open_process(
        command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT
    )
    node = CNode(host_id, process)
    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(node.serve)
            await node.start()
            for channel in channels:
                await node.add_channel(channel)
            if crypto is not None:
                await node.set_crypto(crypto.model, crypto.cipher, crypto.hash, crypto.key)
                await node.use_crypto(1)
            if forwarding:
                await node.set_forwarding(True)
            yield node
        except BaseException:
            # To stderr, where pytest shows it with the failure: a cancelled body's exception
            # is not the one that will be seen.
            print(f"C node {host_id}:\n{node.report()}", file=sys.stderr)
            raise
        finally:
            await node.end()
