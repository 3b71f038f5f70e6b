"""The cases between two machines: cases of the bench, over links that are already open."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

import attrs

from knet_trio.cli.bench.bed import OURS, Bed
from knet_trio.cli.bench.case import Case, Measured
from knet_trio.cli.bench.kinds.failover import CUT_AT, Failover
from knet_trio.cli.bench.kinds.roundtrip import RoundTrip
from knet_trio.cli.bench.kinds.streams import LinkChoice, StreamThroughput
from knet_trio.cli.bench.kinds.throughput import Throughput
from knet_trio.cli.bench.machines.client import Machines, check_machines
from knet_trio.cli.bench.machines.place import Place
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchPeer

_SIZES: Final = (64, 1400, 65000)
# In pong timeouts: how long messages are sent after the cut, to see the link go down.
_TIMEOUTS: Final = 2
_SECONDS: Final = 3.0


_BACK: Final = "/back"


def _turn(sides: tuple[BenchPeer, BenchPeer], *, back: bool) -> tuple[BenchPeer, BenchPeer]:
    """Return source and sink: this side and the server, or with ``back`` the reverse."""
    here, there = sides
    return (there, here) if back else (here, there)


class _Alone:
    """A mixin for cases with one contender, since no other one runs between machines."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone."""
        return (OURS,)


@attrs.frozen
class MachineThroughput(_Alone, Throughput):
    """Messages to the server; with ``back``, from it."""

    back: bool = False

    @property
    def name(self) -> str:
        """The name, such as ``throughput/machines/64/clear/back``."""
        return f"{super().name}{_BACK if self.back else ''}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run source and sink for the time of a turn."""
        async with check_machines(network).open_case() as sides:
            source, sink = _turn(sides, back=self.back)
            return await self.run(source, sink, bed.seconds)


@attrs.frozen
class MachineRoundTrip(_Alone, RoundTrip):
    """Messages to the server and back."""

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure round trips for the time of a turn."""
        async with check_machines(network).open_case() as (here, there):
            return await self.run(here, there, bed.seconds)


@attrs.frozen
class MachineStream(_Alone, StreamThroughput):
    """A stream to the server; with ``back``, from it."""

    back: bool = False

    @property
    def name(self) -> str:
        """The name, such as ``stream/throughput/machines/passive/clear/back``."""
        return f"{super().name}{_BACK if self.back else ''}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run a stream, and count in the middle of it at the sink."""
        async with check_machines(network).open_case() as sides:
            source, sink = _turn(sides, back=self.back)
            return await self.run(source, sink, network, bed.seconds)


@attrs.frozen
class MachineFailover(_Alone, Failover):
    """1000 messages a second to the server; after a second, the link in use is disabled.

    With ``disabled-here`` as ``cut`` it is disabled at the sender, which knows at once; with
    ``disabled-there`` at the receiver, and the sender has to find out.
    """

    HERE: ClassVar = "disabled-here"
    THERE: ClassVar = "disabled-there"

    @property
    def network(self) -> str:
        """The two machines."""
        return Machines.name

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Let the links settle, send messages, and disable the link in use."""
        machines = check_machines(network)
        async with machines.open_case(bed.settle_seconds, links=self.links) as (source, sink):
            side = source if self.cut == self.HERE else sink

            async def cut() -> None:
                await side.call("disable", id=machines.find_link_in_use())

            least = CUT_AT + _TIMEOUTS * machines.pong_timeout
            return await self.run(source, sink, cut, max(least, min(_SECONDS, 3 * bed.seconds)))


def make_cases(place: Place, links: int) -> Sequence[Case]:
    """Return all cases between two machines.

    Args:
        place: The hosts.
        links: The number of links between them.
    """
    dressing, policy = place.dressing, place.cluster.policy.value
    on = Machines.name
    failover = partial(MachineFailover, policy=policy)
    route = LinkChoice(links, policy)
    directions = (False, True)
    return [
        *(
            MachineThroughput(on, size, dressing, back=back)
            for size in _SIZES
            for back in directions
        ),
        MachineRoundTrip(on, 64, dressing),
        *(MachineStream(on, dressing, route, back=back) for back in directions),
        *(failover(cut) for cut in (MachineFailover.HERE, MachineFailover.THERE) if links > 1),
    ]
