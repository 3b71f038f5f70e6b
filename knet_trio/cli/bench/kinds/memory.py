"""The memory that hosts take."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs
import trio

from knet_trio.cli.bench.bed import Bed
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import open_peer

_MIB: Final = 1024 * 1024
_SETTLE: Final = 2.0
_FIRST_PORT: Final = 20000


@attrs.frozen
class Memory(Case):
    """A handle with ``hosts`` hosts, each with one disabled link."""

    kind: ClassVar[str] = "memory"
    warm_up: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("resident", "resident", "MiB", False),
        Metric("bare", "before the hosts", "MiB"),
        Metric("each", "a host", "KiB", False),
    )

    hosts: int

    @property
    def name(self) -> str:
        """The name, such as ``memory/512``."""
        return f"{self.kind}/{self.hosts}"

    @property
    def rounds(self) -> int | None:
        """One, because rounds differ by a per cent at most."""
        return 1

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Measure the resident memory before and after the hosts are added."""
        async with open_peer(bed.commands[contender]) as peer:
            await peer.call("handle", id=1)
            bare = peer.resident_bytes()
            src = f"{network.address(0, 0)}:{network.take_port(0, 0)}"
            for number in range(self.hosts):
                await peer.call("host", handle=1, id=number + 2)
                dst = f"{network.address(1, 0)}:{_FIRST_PORT + number}"
                await peer.call(
                    "link", handle=1, host=number + 2, id=0, src=src, dst=dst, enabled=0
                )
            # Some memory is allocated in the background.
            await trio.sleep(_SETTLE)
            resident = peer.resident_bytes()
            return {
                "resident": resident / _MIB,
                "bare": bare / _MIB,
                "each": (resident - bare) / 1024 / self.hosts,
            }
