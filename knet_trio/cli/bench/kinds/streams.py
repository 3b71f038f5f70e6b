"""One stream, as fast as possible: alone, with loss, and while a link is cut."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import MESSAGES, OURS, TCP, Bed, Dressing, Timers
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.throughput import LEAD, TAIL, per_second, send_messages
from knet_trio.cli.bench.network import Network, Veth
from knet_trio.cli.bench.process import BenchError, BenchPeer

# Two rounds, to show ranges without making the bench much longer.
ROUNDS: Final = 2
# Bytes of a message of the contender that sends messages: it fits in one packet over loopback.
_MESSAGE: Final = 60_000
_CUT_AFTER: Final = 0.7
_CUT_LEFT: Final = 1.3
_PAIR: Final = 2


@attrs.frozen
class LinkChoice:
    """The links of a stream.

    Attributes:
        links: The number of links.
        policy: The policy that chooses the links to use.
    """

    links: int = 1
    policy: str = "passive"

    @property
    def name(self) -> str:
        """``one-link``, ``passive`` or ``active``."""
        return "one-link" if self.links == 1 else self.policy


def meeting_point(network: Network) -> str:
    """Return an address with a port on side 1, for contenders that need one."""
    return f"{network.address(1, 0)}:{network.take_port(1, 0)}"


async def run_stream(
    source: BenchPeer,
    sink: BenchPeer,
    network: Network,
    seconds: float,
    *,
    dressing: Dressing,
    check: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a stream from host 1 to host 2.

    Args:
        source: The process of host 1.
        sink: The process of host 2.
        network: The network.
        seconds: How long to measure, in seconds.
        dressing: The encryption and compression.
        check: True to compute a hash of the stream on both sides.

    Returns:
        The answers of source and sink.
    """
    begin = time.monotonic() + LEAD
    end = begin + seconds
    common = {
        "at": meeting_point(network),
        "begin": begin,
        "end": end,
        "check": int(check),
        # For contenders without other encryption.
        "tls": int(bool(dressing.cipher)),
    }
    await sink.call("drain", handle=2, **common)
    fed = await source.call("feed", handle=1, to=2, stop=end + TAIL, **common)
    return fed, await sink.call("drained", handle=2)


def _rate(got: Mapping[str, Any]) -> float:
    """Return the megabytes a second at a sink.

    Raises:
        BenchError: Nothing arrived.
    """
    return per_second(got, "count") / 1e6


@attrs.frozen
class StreamThroughput(Case):
    """One stream without pause.

    The contender ``messages`` sends as many messages of 60,000 bytes as both sides sustain over the
    same links; the other contenders have their own streams.
    """

    kind: ClassVar[str] = "stream/throughput"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("bandwidth", "payload", "MB/s", True),
        Metric("source_cpu", "CPU source", "cores"),
        Metric("sink_cpu", "CPU sink", "cores"),
    )

    on: str
    dressing: Dressing
    route: LinkChoice = LinkChoice()
    who: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, such as ``stream/throughput/veth/one-link/clear``."""
        return f"{self.kind}/{self.on}/{self.route.name}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """The network that ``on`` names."""
        return self.on

    @property
    def links(self) -> int:
        """Those of the route."""
        return self.route.links

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, its messages, and the contenders in ``who``."""
        return (OURS, MESSAGES, *self.who)

    @property
    def rounds(self) -> int | None:
        """Two."""
        return ROUNDS

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run a stream, and count in the middle of it at the sink."""
        async with bed.open_pair(
            contender,
            network,
            dressing=self.dressing,
            links=self.route.links,
            policy=self.route.policy,
        ) as (source, sink):
            if contender != MESSAGES:
                return await self.run(source, sink, network, bed.seconds)
            sent, got = await send_messages(source, sink, _MESSAGE, bed.seconds)
            return _stream_result(sent, got, _rate(got) * _MESSAGE)

    async def run(
        self, source: BenchPeer, sink: BenchPeer, network: Network, seconds: float
    ) -> Measured:
        """Measure between two sides with links that are up."""
        sent, got = await run_stream(source, sink, network, seconds, dressing=self.dressing)
        return _stream_result(sent, got, _rate(got))


def _stream_result(sent: Mapping[str, Any], got: Mapping[str, Any], bandwidth: float) -> Measured:
    return {
        "bandwidth": bandwidth,
        "source_cpu": per_second(sent, "cpu"),
        "sink_cpu": per_second(got, "cpu"),
    }


@attrs.frozen
class StreamLoss(Case):
    """The rate of a stream with random loss of packets, divided by the rate without loss.

    Trains are split into packets before the wire, as network cards do, so that packets are lost one
    by one.
    """

    kind: ClassVar[str] = "stream/loss"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ratio", "by the rate without", "", True),
        Metric("bandwidth", "payload", "MB/s", True, compared=True),
        Metric("without", "without loss", "MB/s"),
    )

    per_cent: float
    dressing: Dressing
    route: LinkChoice = LinkChoice()
    who: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name, such as ``stream/loss/2/one-link/clear``."""
        return f"{self.kind}/{self.per_cent:g}/{self.route.name}/{self.dressing.name}"

    @property
    def network(self) -> str:
        """Veth, because it can drop packets."""
        return Veth.name

    @property
    def links(self) -> int:
        """Those of the route."""
        return self.route.links

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio, TCP, and the contenders in ``who``."""
        return (OURS, TCP, *self.who)

    @property
    def rounds(self) -> int | None:
        """Two."""
        return ROUNDS

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Run a stream without loss, then a stream with loss."""
        if not isinstance(network, Veth):
            raise BenchError(f"{self.name} needs interfaces of its own")
        await network.send_singly()
        rates: list[float] = []
        for lossy in (False, True):
            if lossy:
                await network.lose_some(self.per_cent / 100)
            async with bed.open_pair(
                contender,
                network,
                dressing=self.dressing,
                links=self.route.links,
                policy=self.route.policy,
            ) as (source, sink):
                _, got = await run_stream(
                    source, sink, network, bed.seconds, dressing=self.dressing
                )
                rates.append(_rate(got))
        without, bandwidth = rates
        return {"ratio": bandwidth / without, "bandwidth": bandwidth, "without": without}


@attrs.frozen
class StreamCut(Case):
    """A stream over two links; in the middle of it the first link fails.

    The ping interval is 100 ms, the pong timeout 300 ms.

    Attributes:
        cut: ``interface-down`` sets the sender's interface down, which its system knows;
            ``black-hole`` lets packets vanish, which no error reports.
        policy: The policy of the links.
        dressing: The encryption and compression.
    """

    kind: ClassVar[str] = "stream/cut"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("pause", "longest pause", "ms", False),
        Metric("before", "longest before the cut", "ms"),
        Metric("bandwidth", "payload", "MB/s"),
        Metric("damaged", "arrived otherwise than sent", "streams"),
        Metric("downs", "links found down", ""),
    )

    cut: str
    policy: str
    dressing: Dressing

    @property
    def name(self) -> str:
        """The name, such as ``stream/cut/black-hole/passive``."""
        return f"{self.kind}/{self.cut}/{self.policy}"

    @property
    def network(self) -> str:
        """Veth, because loopback has no interface for each link."""
        return Veth.name

    @property
    def links(self) -> int:
        """Two links."""
        return _PAIR

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, since the streams of the others stay on one link."""
        return (OURS,)

    @property
    def rounds(self) -> int | None:
        """Two, because links have to settle each time."""
        return ROUNDS

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Let the links settle, run a stream, and cut."""
        if not isinstance(network, Veth):
            raise BenchError(f"{self.name} needs interfaces of its own")
        async with bed.open_pair(
            contender,
            network,
            dressing=self.dressing,
            links=_PAIR,
            policy=self.policy,
            timers=Timers(ping=0.1, timeout=0.3),
        ) as (source, sink):
            await trio.sleep(bed.settle_seconds)
            before = await source.call("status", handle=1)
            cut_at = 0.0

            async def cut() -> None:
                nonlocal cut_at
                await trio.sleep(LEAD + _CUT_AFTER)
                cut_at = time.monotonic()
                if self.cut == "interface-down":
                    await network.take_down(0, 0)
                else:
                    await network.lose_all(0)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cut)
                fed, got = await run_stream(
                    source,
                    sink,
                    network,
                    _CUT_AFTER + _CUT_LEFT,
                    dressing=self.dressing,
                    check=True,
                )
            after = await source.call("status", handle=1)
            whole = fed["sent"] == got["received"] and fed["digest"] == got["digest"]
            pauses = got["pauses"]
            return {
                "pause": 1e3 * max((long for at, long in pauses if at + long > cut_at), default=0),
                "before": 1e3 * max((long for at, long in pauses if at + long < cut_at), default=0),
                "bandwidth": _rate(got),
                "damaged": int(not whole),
                "downs": after["downs"] - before["downs"],
            }
