"""The calls for one message, beside the calls for many messages at once."""

from __future__ import annotations

import time
from typing import ClassVar, Final

import attrs

from knet_trio.cli.bench.bed import OURS, Bed, Dressing
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.kinds.throughput import CREDITS, LEAD, TAIL, per_second, window
from knet_trio.cli.bench.network import Network

_SIZE: Final = 64
# The sink's mode for each call that receives, and the name of the call that sends.
_RECEIVING: Final = {"async-for": "for", "receive": "one"}
_SENDING: Final = "send"


@attrs.frozen
class Natural(Case):
    """The rate of a call in a loop, divided by that of its form for many messages.

    ``async-for`` and ``receive`` are measured beside ``receive_many``, with a sender that does not
    wait for them; ``send`` is measured beside ``send_many``, with a receiver that keeps up.

    Attributes:
        call: The call: ``async-for``, ``receive`` or ``send``.
        dressing: The encryption and compression.
        beside: The number of messages in a call of ``send_many``: ``many``, as many as fit, or
            ``tens``.
    """

    kind: ClassVar[str] = "natural"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ratio", "by many at once", "", True),
        Metric("rate", "this call", "1/s", True),
        Metric("many", "many at once", "1/s"),
        Metric("dropped", "not received", "%"),
    )

    call: str
    dressing: Dressing
    beside: str = "many"

    @property
    def name(self) -> str:
        """The name, such as ``natural/async-for/clear`` or ``natural/send/tens/clear``."""
        extra = "" if self.beside == "many" else f"/{self.beside}"
        return f"{self.kind}/{self.call}{extra}/{self.dressing.name}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """knet_trio alone, compared with itself."""
        return (OURS,)

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure the form for many messages, then the other form."""
        if self.call == _SENDING:
            many, _ = await self._send(bed, contender, network, self.beside)
            rate, dropped = await self._send(bed, contender, network, "one")
        else:
            many, _ = await self._receive(bed, contender, network, "many")
            mode = _RECEIVING[self.call]
            rate, dropped = await self._receive(bed, contender, network, mode)
        return {"ratio": rate / many, "rate": rate, "many": many, "dropped": dropped}

    async def _receive(
        self, bed: Bed, contender: str, network: Network, mode: str
    ) -> tuple[float, float]:
        async with bed.open_pair(contender, network, dressing=self.dressing) as (source, sink):
            begin = time.monotonic() + LEAD
            common = {"size": _SIZE, "begin": begin, "end": begin + bed.seconds}
            # No credits: the sender does not wait.
            await sink.call("sink", handle=2, mode=mode, step=2**62, **common)
            seconds = LEAD + bed.seconds + TAIL
            poured = await source.call("pour", handle=1, size=_SIZE, seconds=seconds)
            got = await sink.call("sunk", handle=2)
            return per_second(got, "count"), 100 * (1 - got["received"] / poured["sent"])

    async def _send(
        self, bed: Bed, contender: str, network: Network, mode: str
    ) -> tuple[float, float]:
        async with bed.open_pair(contender, network, dressing=self.dressing) as (source, sink):
            begin = time.monotonic() + LEAD
            end = begin + bed.seconds
            common = {"size": _SIZE, "begin": begin, "end": end}
            size = window(_SIZE)
            await sink.call("sink", handle=2, step=size // CREDITS, **common)
            sent = await source.call(
                "source", handle=1, mode=mode, window=size, stop=end + TAIL, **common
            )
            got = await sink.call("sunk", handle=2)
            return per_second(got, "count"), 100 * (1 - got["received"] / sent["sent"])
