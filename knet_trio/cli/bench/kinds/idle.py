"""The cost of heartbeats while no messages are sent."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import LIBKNET, Bed, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network

_HOSTS: Final = 8
_LINKS: Final = 8
# Seconds until the path MTU of all links is known and only heartbeats are sent.
_SETTLE: Final = 2.0
# Seconds from a ping to the next, and the setting with which libknet sends at this interval.
_INTERVAL: Final = 0.2
_SET_TO: Final = {LIBKNET: 0.1}
# In times of a turn: heartbeats come every 200 ms, and a default turn has too few of them.
_TURNS: Final = 5


@attrs.frozen
class Idle(Case):
    """8 hosts with 8 links each, with a ping every 200 ms on each link in both directions.

    libknet is set to a ping interval of 100 ms, with which it sends a ping every 200 ms.
    """

    kind: ClassVar[str] = "idle"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("cpu", "CPU of the one host", "% of a core", False),
        Metric("pings", "pings of a link", "1/s"),
        Metric("others", "CPU of the other 8", "% of a core"),
        Metric("downs", "links found down", ""),
    )

    @property
    def name(self) -> str:
        """The name, ``idle``."""
        return self.kind

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure the CPU time while no messages are sent."""
        timers = Timers(ping=_SET_TO.get(contender, _INTERVAL))
        async with bed.open_star(
            contender, network, hosts=_HOSTS, links=_LINKS, timers=timers
        ) as peers:
            await trio.sleep(_SETTLE)
            state = await peers[0].call("status", handle=1)
            before = [await peer.call("usage") for peer in peers]
            await trio.sleep(_TURNS * bed.seconds)
            after = [await peer.call("usage") for peer in peers]
            end_state = await peers[0].call("status", handle=1)
            cpu, others = (
                100 * (last["cpu"] - first["cpu"]) / (last["now"] - first["now"])
                for first, last in zip(before, after, strict=True)
            )
            downs = end_state["downs"] - state["downs"]
            pings = end_state["pings"] - state["pings"]
            seconds = after[0]["now"] - before[0]["now"]
            rate = pings / seconds / (_HOSTS * _LINKS)
            return {"pings": rate, "cpu": cpu, "others": others, "downs": downs}
