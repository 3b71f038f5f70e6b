"""Two namespaces joined by way of a bridge, at which the kernel's netem treats packets badly.

The bridge is in a namespace of its own, so what happens there happens on the way to both hosts:
their sockets are told nothing of it. Packets of other protocols than UDP and SCTP pass untouched.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import trio

from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import POLL

BRIDGE: Final = 2
PROTOCOLS: Final = {"udp": 17, "sctp": 132}
# Bands of the queue that a packet to a host waits in: what is treated, without data and with it.
# As much may wait there as can come.
CONTROL: Final = 2
DATA: Final = 3
ROOM: Final = "limit 10000"
# A packet with data, in clear, begins like this. Over SCTP a packet may hold several of ours.
DATA_BEGINS: Final = "0x0100"
IP_AND_UDP: Final = 28


@dataclass(frozen=True)
class Dropped:
    """How many packets netem has dropped on a way, for all reasons that it has.

    `data` are those with data in clear over UDP, which are among `all`.
    """

    all: int
    data: int


class NetemPair(NamespacePair):
    """Namespaces 0 and 1, whose `veth{i}` are joined by bridge i.

    The bridge's end of it is `side{side}-{i}`, where packets toward that side leave.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b", "bridge")

    def __init__(self, links: int) -> None:
        super().__init__(links)
        self._treated = dict[tuple[int, int], Dropped]()

    def _join(self, i: int) -> None:
        bridge = f"bridge{i}"
        self._ip(BRIDGE, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
        self._ip(BRIDGE, "link", "set", bridge, "up")
        for side in (0, 1):
            port = self._port(side, i)
            end = ("type", "veth", "peer", "name", port, "netns", self.names[BRIDGE])
            # A train leaves as the packets that a wire would carry, each with a fate of its own.
            self._ip(side, "link", "add", self.device(i), "gso_max_segs", "1", *end)
            self._ip(BRIDGE, "link", "set", port, "master", bridge, "up")
            self._tc("qdisc", "add", port, "root handle 1: prio bands 3 priomap" + " 0" * 16)

    @staticmethod
    def _port(side: int, i: int) -> str:
        return f"side{side}-{i}"

    def _tc(self, kind: str, action: str, port: str, rest: str) -> None:
        self.run(BRIDGE, "tc", kind, action, "dev", port, *rest.split())

    def treat(self, i: int, conditions: str, *, toward: int | None = None) -> None:
        """Have netem treat packets over bridge i like that, toward one side or (None) both ways.

        The conditions are as in tc-netem(8). With others than before, what waits is dropped.
        """
        for side in (0, 1) if toward is None else (toward,):
            port = self._port(side, i)
            if (side, i) in self._treated:
                self._treated[side, i] = self.dropped(i, toward=side)
                self._tc("filter", "delete", port, "parent 1:")
                for band in (CONTROL, DATA):
                    self._tc("qdisc", "delete", port, f"parent 1:{band}")
            else:
                self._treated[side, i] = Dropped(0, 0)
            room = "" if "limit" in conditions else ROOM
            for band in (CONTROL, DATA):
                netem = f"parent 1:{band} handle {band}0: netem {conditions} {room}"
                self._tc("qdisc", "add", port, netem)
            begins = f"match u16 {DATA_BEGINS} 0xffff at {IP_AND_UDP}"
            self._match(port, 1, f"match ip protocol {PROTOCOLS['udp']} 0xff {begins}", DATA)
            for priority, number in enumerate(PROTOCOLS.values(), 2):
                self._match(port, priority, f"match ip protocol {number} 0xff", CONTROL)

    def _match(self, port: str, priority: int, match: str, band: int) -> None:
        rule = f"parent 1: protocol ip prio {priority} u32 {match} flowid 1:{band}"
        self._tc("filter", "add", port, rule)

    async def mend(self) -> None:
        """All packets pass from now on, and those that waited have left."""
        for side, i in self._treated:
            self._tc("filter", "delete", self._port(side, i), "parent 1:")
        while any(self._waiting(i, side) for side, i in self._treated):  # noqa: ASYNC110
            await trio.sleep(POLL)

    def _waiting(self, i: int, side: int) -> int:
        return sum(queue["qlen"] for queue in self._queues(i, side).values())

    def dropped(self, i: int, *, toward: int) -> Dropped:
        """What netem has dropped on that way, since it was first treated."""
        before = self._treated[toward, i]
        now = {band: queue["drops"] for band, queue in self._queues(i, toward).items()}
        return Dropped(before.all + sum(now.values()), before.data + now[DATA])

    def _queues(self, i: int, side: int) -> dict[int, dict[str, int]]:
        port = self._port(side, i)
        said = self.run(BRIDGE, "tc", "-json", "-statistics", "qdisc", "show", "dev", port)
        queues = {queue["handle"]: queue for queue in json.loads(said)}
        return {band: queues[f"{band}0:"] for band in (CONTROL, DATA)}


@contextmanager
def netem_pair(links: int = 1, *, mtu: int = 1500) -> Generator[NetemPair, None, None]:
    """Two namespaces joined by that many bridges; gone when the block ends."""
    pair = NetemPair(links)
    try:
        pair.build(mtu)
        yield pair
    finally:
        pair.remove()
