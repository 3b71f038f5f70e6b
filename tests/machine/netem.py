"""Two namespaces joined by way of a bridge, at which the kernel's netem treats packets badly.

The bridge is in a namespace of its own, so what happens there happens on the way to both hosts:
their sockets are told nothing of it. Packets of other protocols than UDP and SCTP pass untouched.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import trio

from tests.interop.namespaces import NamespacePair, built
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
class Drops:
    """How many packets netem has dropped on a way, for all reasons that it has.

    `data` are those with data in clear over UDP, which are among `all`.
    """

    all: int = 0
    data: int = 0

    def __sub__(self, other: Drops) -> Drops:
        return Drops(self.all - other.all, self.data - other.data)


class NetemPair(NamespacePair):
    """Namespaces 0 and 1, whose `veth{i}` are joined by bridge i.

    The bridge's end of it is `side{side}-{i}`, where packets toward that side leave.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = ("a", "b", "bridge")

    def __init__(self, links: int) -> None:
        super().__init__(links)
        # By side and pair: those that netem has queues for, those that it treats now, and what it
        # had dropped when these queues were made.
        self._known = set[tuple[int, int]]()
        self._bad = set[tuple[int, int]]()
        self._earlier = dict[tuple[int, int], Drops]()

    def _join(self, i: int) -> None:
        bridge = f"bridge{i}"
        self.ip(BRIDGE, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
        self.ip(BRIDGE, "link", "set", bridge, "up")
        for side in (0, 1):
            port = self._port(side, i)
            end = ("type", "veth", "peer", "name", port, "netns", self.names[BRIDGE])
            # A train leaves as the packets that a wire would carry, each with a fate of its own.
            self.ip(side, "link", "add", self.device(i), "gso_max_segs", "1", *end)
            self.ip(BRIDGE, "link", "set", port, "master", bridge, "up")
            self._tc([f"qdisc add dev {port} root handle 1: prio bands 3 priomap" + " 0" * 16])

    @staticmethod
    def _port(side: int, i: int) -> str:
        return f"side{side}-{i}"

    def _tc(self, lines: Iterable[str]) -> str:
        """Run commands of tc at the bridge, all at once: a process takes its time here."""
        text = "".join(f"{line}\n" for line in lines)
        return self.tc(BRIDGE, "-json", "-statistics", "-batch", "-", text=text)

    def treat(
        self, i: int, conditions: str, *, toward: int | None = None, together: bool = False
    ) -> None:
        """Have netem treat packets over bridge i like that, toward one side or (None) both ways.

        The conditions are as in tc-netem(8). With others than before, what waits is dropped.
        Packets with data and others have a queue each, or one `together`.
        """
        lines = list[str]()
        for side in (0, 1) if toward is None else (toward,):
            # With a new queue the counters begin at zero.
            self._earlier[side, i] = self.drops(i, toward=side)
            lines += self._let_pass(side, i)
            known = (side, i) in self._known
            lines += self._replace(self._port(side, i), conditions, known=known, together=together)
            lines += self._lead(self._port(side, i), together=together)
            self._known.add((side, i))
            self._bad.add((side, i))
        self._tc(lines)

    @staticmethod
    def _replace(port: str, conditions: str, *, known: bool, together: bool) -> Iterator[str]:
        """Put a new queue into each band that is treated; a plain one where nothing is led."""
        room = "" if "limit" in conditions else ROOM
        netem = f"netem {conditions} {room}"
        if known:
            # Changed, they would keep what the new conditions do not speak of.
            yield from (f"qdisc delete dev {port} parent 1:{band}" for band in (CONTROL, DATA))
        for band, queue in ((CONTROL, netem), (DATA, "pfifo" if together else netem)):
            yield f"qdisc add dev {port} parent 1:{band} handle {band}0: {queue}"

    @staticmethod
    def _lead(port: str, *, together: bool) -> Iterator[str]:
        """Lead packets into these bands."""
        start = f"filter add dev {port} parent 1: protocol ip"
        if not together:
            begins = f"match u16 {DATA_BEGINS} 0xffff at {IP_AND_UDP}"
            data = f"match ip protocol {PROTOCOLS['udp']} 0xff {begins}"
            yield f"{start} prio 1 u32 {data} flowid 1:{DATA}"
        for priority, number in enumerate(PROTOCOLS.values(), 2):
            protocol = f"match ip protocol {number} 0xff"
            yield f"{start} prio {priority} u32 {protocol} flowid 1:{CONTROL}"

    def _let_pass(self, side: int, i: int) -> Iterator[str]:
        """Lead no packets into these bands any more."""
        if (side, i) in self._bad:
            yield f"filter delete dev {self._port(side, i)} parent 1:"
            self._bad.discard((side, i))

    async def mend(self) -> None:
        """All packets pass from now on, and those that waited have left."""
        self._tc(line for side, i in self._known for line in self._let_pass(side, i))
        while any(self._waiting(i, side) for side, i in self._known):  # noqa: ASYNC110
            await trio.sleep(POLL)

    def _waiting(self, i: int, side: int) -> int:
        return sum(queue["qlen"] for queue in self._queues(i, side).values())

    def drops(self, i: int, *, toward: int) -> Drops:
        """What netem has dropped on that way, since it was first treated."""
        if (toward, i) not in self._known:
            return Drops()
        before = self._earlier[toward, i]
        now = {band: queue["drops"] for band, queue in self._queues(i, toward).items()}
        return Drops(before.all + sum(now.values()), before.data + now[DATA])

    def checksum_errors(self, side: int, transport: str) -> int:
        """How many packets that came to that side had a wrong checksum of the transport."""
        match transport:
            case "udp":
                names, numbers = (
                    line.split()
                    for line in self.run(side, "cat", "/proc/net/snmp").splitlines()
                    if line.startswith("Udp:")
                )
                return int(numbers[names.index("InCsumErrors")])
            case _:
                said = self.run(side, "cat", "/proc/net/sctp/snmp")
                counters = dict(line.split() for line in said.splitlines())
                return int(counters["SctpChecksumErrors"])

    def _queues(self, i: int, side: int) -> dict[int, dict[str, int]]:
        said = self._tc([f"qdisc show dev {self._port(side, i)}"])
        queues = {queue["handle"]: queue for queue in json.loads(said)}
        return {band: queues[f"{band}0:"] for band in (CONTROL, DATA)}


@contextmanager
def netem_pair(links: int = 1, *, mtu: int = 1500) -> Generator[NetemPair, None, None]:
    """Two namespaces joined by that many bridges; gone when the block ends.

    The calling thread is in the first one, since associations are made at any time.
    """
    with built(NetemPair(links), mtu) as pair, pair.inside(0):
        yield pair
