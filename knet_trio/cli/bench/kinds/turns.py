"""The time that other tasks of a program wait while a handle does something large."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import AES, CLEAR, OURS, Bed, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError, PeerProcess

_MESSAGES: Final = 500_000
_SIZE: Final = 64
# A host has at most 8 links, so these make 456 and 504 links.
_LINKS: Final = 8
_HOSTS_SETTINGS: Final = 57
_HOSTS_ERRORS: Final = 63
_TIMERS: Final = Timers(ping=1.0, timeout=5.0, pongs=1)
# Seconds after which all work that follows from an action is done.
_AFTER: Final = 2.5
_FLOOD: Final = 1500
_FLOOD_SIZE: Final = 65536
_FILLING: Final = 15.0
_NEW_KEY: Final = bytes(reversed(range(256))).hex()
_MS: Final = 1e3

Watched = dict[str, Any]


@attrs.frozen
class LongTurns(Case):
    """The turns of the event loop during a large action.

    Attributes:
        what: The action.
        algorithm: The model of compression of a flood.
        scale: The size of the action, 1 for the usual one.
    """

    kind: ClassVar[str] = "turns"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("longest", "longest turn", "ms", False),
        Metric("p99", "turn p99", "ms", False),
        Metric("p50", "turn p50", "ms", False),
        Metric("waited", "longest wait of another task", "ms", False),
        Metric("delayed", "the same by the clock", "ms"),
        Metric("collection", "longest garbage collection", "ms"),
        Metric("preempted", "longest without the processor in a turn", "ms"),
        Metric("turns", "turns", ""),
    )

    what: str
    algorithm: str = ""
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The name, such as ``turns/send-many`` or ``turns/flood/lz4``."""
        return "/".join(filter(None, (self.kind, self.what, self.algorithm)))

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, since no other contender has these turns."""
        return (OURS,)

    @property
    def rounds(self) -> int | None:
        """Two, because the times are CPU times and differ little."""
        return 2

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Watch the turns during the action."""
        measure = _MEASURES[self.what]
        watched = await measure(self, bed, contender, network)
        spans = ("longest", "p99", "p50", "waited", "delayed", "collection", "preempted")
        return {**{key: _MS * watched[key] for key in spans}, "turns": watched["turns"]}

    def _scaled(self, number: int) -> int:
        return max(1, round(self.scale * number))

    async def send_many(self, bed: Bed, contender: str, network: Network) -> Watched:
        """Send 500,000 messages in one call, which is refused for ``arguments``."""
        async with bed.open_pair(contender, network, timers=_TIMERS) as (source, sink):
            await sink.call("sink", handle=2, size=_SIZE, step=2**62)
            spoil = int(self.what == "arguments")
            await source.call("prepare", count=self._scaled(_MESSAGES), size=_SIZE, spoil=spoil)
            return await _watch(source, lambda: source.call("burst", handle=1), 0.0)

    async def flood(self, bed: Bed, contender: str, network: Network) -> Watched:
        """Receive 1500 messages of 64 KiB, compressed to almost nothing, all at once."""
        flood = self._scaled(_FLOOD)
        dressing = attrs.evolve(AES, compress=self.algorithm)
        async with bed.open_dammed(contender, network, dressing=dressing, timers=_TIMERS) as dammed:
            target, source, dam = dammed.low, dammed.high, dammed.dam
            await target.call("sink", handle=1, size=_FLOOD_SIZE, step=2**62)
            await source.call("prepare", count=2 * flood, size=_FLOOD_SIZE, payload="zeros")
            dam.close_gates(flood)
            with trio.move_on_after(_FILLING) as scope:
                await source.call("burst", handle=2)
                await dam.wait_filled()
            if scope.cancelled_caught:
                raise BenchError(f"the flood could not be made in {_FILLING:g} s")
            return await _watch(target, lambda: dam.open_gates(dammed.address))

    async def errors(self, bed: Bed, contender: str, network: Network) -> Watched:
        """Send a message over 504 links whose other ends are gone: each returns an error."""
        async with bed.open_star(
            contender,
            network,
            hosts=self._scaled(_HOSTS_ERRORS),
            links=_LINKS,
            timers=_TIMERS,
            policy="active",
        ) as (hub, rim):
            await hub.call("prepare", count=1, size=_SIZE)
            await rim.kill()
            return await _watch(hub, lambda: hub.call("burst", handle=1))

    async def settings(self, bed: Bed, contender: str, network: Network) -> Watched:
        """Change a setting of the handle that applies to all its 456 links."""
        rekey, hosts = self.what == "rekey", self._scaled(_HOSTS_SETTINGS)
        async with bed.open_star(
            contender,
            network,
            hosts=hosts,
            links=_LINKS,
            timers=_TIMERS,
            dressing=AES if rekey else CLEAR,
        ) as (hub, rim):
            if rekey:
                new = {**AES.arguments, "key": _NEW_KEY, "slot": 2}
                await hub.call("rekey", handle=1, **new)
                for host in range(2, 2 + hosts):
                    await rim.call("rekey", handle=host, **new)
            actions: dict[str, Callable[[], Awaitable[object]]] = {
                "mtu": lambda: hub.call("tune", handle=1, mtu=1400),
                "probes": lambda: hub.call("tune", handle=1, pmtud=1),
                "rekey": lambda: hub.call("use", handle=1, slot=2),
            }
            return await _watch(hub, actions[self.what])


_MEASURES: Final = {
    "send-many": LongTurns.send_many,
    "arguments": LongTurns.send_many,
    "flood": LongTurns.flood,
    "errors": LongTurns.errors,
    "mtu": LongTurns.settings,
    "probes": LongTurns.settings,
    "rekey": LongTurns.settings,
}


async def _watch(
    peer: PeerProcess, act: Callable[[], Awaitable[object]], after: float = _AFTER
) -> Watched:
    await peer.call("watch")
    await act()
    await trio.sleep(after)
    return await peer.call("watched")
