"""The time from enabling a link until it is up."""

from __future__ import annotations

from typing import ClassVar

import attrs

from knet_trio.cli.bench.bed import Bed, Timers, join, wait_up
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.network import Network


@attrs.frozen
class Connect(Case):
    """The time from enabling a link until it is up, with a ping every 100 ms and pong count 2.

    The other side has enabled the link just before.
    """

    kind: ClassVar[str] = "connect"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("seconds", "to connected", "ms", False),)

    @property
    def name(self) -> str:
        """The name, ``connect``."""
        return self.kind

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        """Enable a link at both ends and wait until it is up."""
        async with bed.open_peers(contender, network) as peers:
            for side, peer in enumerate(peers):
                await peer.call("handle", id=side + 1)
                await peer.call("host", handle=side + 1, id=2 - side)
            await join(peers, network, 0, timers=Timers(pongs=2), enabled=False)
            here, there = peers
            await there.call("enable", handle=2, host=1, id=0)
            await here.call("enable", handle=1, host=2, id=0)
            up = await wait_up({1: here, 2: there}, 0)
            return {"seconds": 1e3 * up[1]["seconds"]}
