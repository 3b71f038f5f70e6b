"""What is measured between two machines: cases of the bench, over links that are there already."""

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
# Of pong timeouts, for the stream to go on behind the one that finds the link dead.
_TIMEOUTS: Final = 2
_SECONDS: Final = 3.0


_BACK: Final = "/back"


def _turn(sides: tuple[BenchPeer, BenchPeer], *, back: bool) -> tuple[BenchPeer, BenchPeer]:
    """Return source and sink: this side and the server, or the other way round."""
    here, there = sides
    return (there, here) if back else (here, there)


class _Alone:
    """The part of a case that says who takes part: nobody else has such links."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio."""
        return (OURS,)


@attrs.frozen
class MachineThroughput(_Alone, Throughput):
    """Messages to the server; with ``back``, from it."""

    back: bool = False

    @property
    def name(self) -> str:
        """Such as ``throughput/machines/64/clear``, with ``/back`` from the server."""
        return f"{super().name}{_BACK if self.back else ''}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run source and sink for a while."""
        async with check_machines(network).open_case() as sides:
            source, sink = _turn(sides, back=self.back)
            return await self.run(source, sink, bed.seconds)


@attrs.frozen
class MachineRoundTrip(_Alone, RoundTrip):
    """Messages to the server and back."""

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure round trips for the time that a turn has."""
        async with check_machines(network).open_case() as (here, there):
            return await self.run(here, there, bed.seconds)


@attrs.frozen
class MachineStream(_Alone, StreamThroughput):
    """A stream to the server; with ``back``, from it."""

    back: bool = False

    @property
    def name(self) -> str:
        """Such as ``stream/throughput/machines/passive/clear``, with ``/back`` from the server."""
        return f"{super().name}{_BACK if self.back else ''}"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run a stream, and count at the sink in the middle of it."""
        async with check_machines(network).open_case() as sides:
            source, sink = _turn(sides, back=self.back)
            return await self.run(source, sink, network, bed.seconds)


@attrs.frozen
class MachineFailover(_Alone, Failover):
    """1000 messages a second to the server; a second on, the link in use is disabled.

    ``cut``: ``disabled-here`` disables it at the sender, which knows at once; ``disabled-there`` at
    the receiver, and nobody tells the sender.
    """

    HERE: ClassVar = "disabled-here"
    THERE: ClassVar = "disabled-there"

    @property
    def network(self) -> str:
        """The two machines."""
        return Machines.name

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Let the links grow old, stream, and disable one."""
        machines = check_machines(network)
        async with machines.open_case(bed.settle_seconds, links=self.links) as (source, sink):
            side = source if self.cut == self.HERE else sink

            async def cut() -> None:
                await side.call("disable", id=machines.find_link_in_use())

            least = CUT_AT + _TIMEOUTS * machines.pong_timeout
            return await self.run(source, sink, cut, max(least, min(_SECONDS, 3 * bed.seconds)))


def make_cases(place: Place, links: int) -> Sequence[Case]:
    """Return all cases that there are over so many links."""
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
