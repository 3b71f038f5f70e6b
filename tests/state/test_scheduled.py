"""The short way of scheduled pings and their pongs leads where the long way leads."""

from __future__ import annotations

from itertools import product

import pytest
import trio

from knet_trio._core.admission import (
    VERDICTS,
    Action,
    LinkKind,
    LinkPhase,
    Origin,
    PacketKind,
    Situation,
)
from knet_trio._core.onwire import (
    Ping,
    Pong,
    decode_untrusted,
    encode_ping,
    encode_pong,
)
from knet_trio._state.control import receive_control, receive_scheduled
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from tests.state.fakes import World, address

STAMP = bytes(range(16))


class Bed:
    """A world with a link that is up, whose last ping has not been answered."""

    def __init__(self, *, access_lists: bool = True) -> None:
        self.world = World(access_lists=access_lists)
        self.host = self.world.add_host()
        self.link = self.world.add_link(self.host, dst=address(2))
        self.world.bring_up(self.link)
        self.world.context.counters.drops.clear()
        self.link.counters.clear()
        self.link.heartbeat.ping(self.world.context.now(), timed=True)
        ping = self.world.endpoint.packets()[-1]
        assert isinstance(ping, Ping)
        self.stamp = ping.time
        self.sent = len(self.world.endpoint.sent)

    def receive(self, packet: bytes, source: Address, *, short: bool) -> bool:
        """Receive a packet by the short way or by the long one; whether it was for the short."""
        if short and receive_scheduled(self.world.handle, packet, source):
            return True
        decoded = decode_untrusted(packet)
        assert isinstance(decoded, Ping | Pong)
        receive_control(self.world.handle, decoded, len(packet), source)
        return False

    def outcome(self) -> list[object]:
        """All that may follow from a packet, but for times and stamps."""
        link, liveness = self.link, self.link.heartbeat.liveness
        packets = self.world.endpoint.packets()[self.sent :]
        return [
            dict(self.world.context.counters.drops),
            dict(link.counters.drops),
            link.counters.tallies,
            [(type(packet), packet[:2], packet[3:]) for packet in packets],
            link.connected.is_on,
            liveness.suspect(1e9),
            link.heartbeat.last_pings().loss,
            link.address.heard is None,
            link.destination,
            self.host.inbound.newest,
        ]


def make(kind: str, stamp: bytes, *, node: int, link: int, seq: int, timed: int) -> bytes:
    fields = node, link, stamp, seq, bool(timed)
    packet = encode_ping(Ping(*fields)) if kind == "ping" else encode_pong(Pong(*fields))
    return packet[:-1] + bytes((timed,))


@pytest.mark.parametrize("access_lists", [True, False])
@pytest.mark.parametrize("kind", ["ping", "pong"])
async def test_both_ways_lead_to_the_same(
    kind: str, access_lists: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Also for whatever the short way leaves to the long one."""
    taken = 0
    fields = product((True, False), (2, 3), (0, 1), (0, 5), (0, 1, 2), (address(2), address(3)))
    for answers, node, link_id, seq, timed, source in fields:
        outcomes: list[list[object]] = []
        for short in (True, False):
            bed = Bed(access_lists=access_lists)
            await trio.sleep(0.01)
            stamp = bed.stamp if answers else STAMP
            packet = make(kind, stamp, node=node, link=link_id, seq=seq, timed=timed)
            # The second time it is a copy.
            takes = [bed.receive(packet, source, short=short) for _ in range(2)]
            taken += sum(takes)
            outcomes.append(bed.outcome())
        assert outcomes[0] == outcomes[1]
    # From its place, scheduled, for its link: any stamp in a ping twice, the last one in a pong.
    assert taken == (8 if kind == "ping" else 4)


async def test_a_pong_of_the_short_way_takes_a_link_further() -> None:
    bed = Bed()
    pong = make("pong", bed.stamp, node=2, link=0, seq=0, timed=1)
    assert bed.receive(pong, address(2), short=True)
    assert bed.link.heartbeat.last_pings().loss == 0
    # The second one answers a ping that has its answer.
    assert bed.receive(pong, address(2), short=True)
    assert list(bed.link.counters.drops) == ["unexpected_pong"]


async def test_a_copy_of_a_ping_that_may_start_afresh_is_refused() -> None:
    bed = Bed()
    ping = make("ping", STAMP, node=2, link=0, seq=0, timed=1)
    assert bed.receive(ping, address(2), short=True)
    assert bed.receive(ping, address(2), short=True)
    assert list(bed.link.counters.drops) == ["replayed"]
    assert len(bed.world.endpoint.sent) == bed.sent + 1


def test_the_table_has_one_answer_for_whom_the_short_way_is() -> None:
    """A link that is admitted is enabled, its host is reached, and the packet is of its peer."""
    phases = set(LinkPhase) - {LinkPhase.DISABLED}
    for kind, expected in ((PacketKind.PING, Action.ACT), (PacketKind.PONG, Action.CHECK)):
        for link, phase in product(LinkKind, phases):
            assert VERDICTS[Situation(kind, link, phase, True, Origin.PEER)] is expected


@pytest.mark.parametrize("how", ["down", "disabled", "host gone", "ended"])
async def test_the_short_way_ends_with_the_link(how: str) -> None:
    bed = Bed()
    link: NetworkLinkState = bed.link
    if how == "down":
        link.take_down(bed.world.context.now(), "it is tested")
    elif how == "disabled":
        link.set_enabled(False)
    elif how == "host gone":
        bed.host.remove(link)
    else:
        bed.host.end()
    ping = make("ping", STAMP, node=2, link=0, seq=5, timed=1)
    assert not receive_scheduled(bed.world.handle, ping, address(2))
