"""What it takes to look after those who wait in front of many lanes: it goes by their number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import Batch, Waiter
from knet_trio._state.turns import counted_turns
from tests.pipeline.lanes import Senders
from tests.pipeline.sending import drops
from tests.pipeline.test_send_lanes import Sockets, fill

HOSTS = range(2, 25)
WAITING = 3


class Tries:
    """Counts how often it is looked whether something may enter.

    Attributes:
        count: How often.
        batches: What was looked at.
    """

    def __init__(self, transmitter: Transmitter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.batches: set[Batch] = set()
        try_enter = transmitter._lanes._try_enter  # pyright: ignore[reportPrivateUsage]

        def try_noted(batch: Batch, hosts: Sequence[HostState], waiter: Waiter | None) -> bool:
            self.count += 1
            self.batches.add(batch)
            return try_enter(batch, hosts, waiter)

        monkeypatch.setattr(transmitter._lanes, "_try_enter", try_noted)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("event", ["time passes", "a lane is stuck", "a host is lost"])
async def test_each_is_looked_at_once(
    event: str, nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = Sockets(*HOSTS)
    hosts = sockets.world.handle.hosts
    async with sockets.running() as transmitter:
        lanes = transmitter._lanes  # pyright: ignore[reportPrivateUsage]
        sockets.hold(*HOSTS)
        await fill(transmitter)
        for number in range(WAITING):
            nursery.start_soon(transmitter.send, (b"%d" % number,), 0)
        await wait_all_tasks_blocked()
        # The others have had room a moment ago, and none now.
        for host_id in HOSTS[1:]:
            hosts[host_id].lane.take_all()
            hosts[host_id].network_links[0].sender._blocked_at = trio.current_time() + 1  # pyright: ignore[reportPrivateUsage]
        hosts[2].lane.moved_at = trio.current_time()
        tries = Tries(transmitter, monkeypatch)
        if event == "time passes":
            lanes._look_again(0.0)  # pyright: ignore[reportPrivateUsage]
        elif event == "a lane is stuck":
            lanes.blocked(hosts[2])
        else:
            hosts[3].network_links[0].take_down(0.0, "the test says so")
        assert tries.count <= WAITING
        assert len(hosts[2].lane.waiters) == WAITING
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("event", ["a host is lost", "forwarding is off"])
async def test_who_is_told_in_turns_is_told_at_the_end_at_the_latest(event: str) -> None:
    sockets = Sockets(2)
    ended: list[str] = []
    async with sockets.running() as transmitter, trio.open_nursery() as nursery:
        sockets.hold(2)
        await fill(transmitter)

        async def wait() -> None:
            try:
                await transmitter.send((b"x",), 0, (2,))
            except trio.ClosedResourceError:
                ended.append("closed")
            else:
                ended.append("returned")

        for _ in range(100):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        if event == "a host is lost":
            sockets.world.handle.hosts[2].network_links[0].take_down(0.0, "the test says so")
        else:
            sockets.world.context.forwarding = False
            transmitter.stop()
        # Nobody does the rest of the work.
        transmitter.close()
        with trio.fail_after(5):
            while len(ended) < 100:
                await trio.lowlevel.checkpoint()
    assert set(ended) == {"closed", "returned"}
    assert ended.count("closed") > 50


# Looks that end a turn, and a few more.
ONE_TURN = 100
# With those few that fill it, less than a lane takes.
MANY = 900


async def test_many_are_let_in_in_turns(
    nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted_turns():
        sockets = Sockets(*HOSTS)
    hosts = sockets.world.handle.hosts
    async with sockets.running() as transmitter:
        senders = Senders(transmitter, nursery)
        sockets.hold(*HOSTS)
        # A few large messages, so that all who wait find room at once.
        await fill_with(transmitter, bytes(65536))
        for number in range(MANY):
            senders.start(b"%d" % number)
        await wait_all_tasks_blocked()
        assert len(hosts[2].lane.waiters) == MANY
        for host in hosts.values():
            assert host.lane.take() is not None
        turns = sockets.world.context.turns
        turns.resumed(turns.round)
        tries = Tries(transmitter, monkeypatch)
        transmitter._lanes.progressed(hosts[2])  # pyright: ignore[reportPrivateUsage]
        assert 0 < tries.count <= ONE_TURN
        assert len(hosts[2].lane.waiters) > MANY - ONE_TURN
        await wait_all_tasks_blocked()
        assert senders.returned == MANY
        assert len(tries.batches) == MANY
        assert drops(sockets.world) == {}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("event", ["time passes", "a lane is stuck"])
async def test_many_are_looked_at_in_turns(
    event: str, nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = 2000
    with counted_turns():
        sockets = Sockets(2, 3)
    hosts = sockets.world.handle.hosts
    turns = sockets.world.context.turns
    async with sockets.running() as transmitter:
        lanes = transmitter._lanes  # pyright: ignore[reportPrivateUsage]
        sockets.hold(2, 3)
        await fill(transmitter)
        senders = Senders(transmitter, nursery)
        for number in range(waiting):
            senders.start(b"%d" % number)
        await wait_all_tasks_blocked()
        # Host 3 has had room a moment ago, and has none now.
        hosts[3].lane.take_all()
        hosts[3].network_links[0].sender._blocked_at = trio.current_time() + 1  # pyright: ignore[reportPrivateUsage]
        hosts[2].lane.moved_at = trio.current_time()
        tries = Tries(transmitter, monkeypatch)
        turns.resumed(turns.round)
        if event == "time passes":
            lanes._look_again(0.0)  # pyright: ignore[reportPrivateUsage]
        else:
            lanes.blocked(hosts[2])
        assert 0 < tries.count <= ONE_TURN
        # Each gets its turn.
        for _ in range(waiting):
            if len(tries.batches) == waiting:
                break
            turns.resumed(turns.round)
            before = tries.count
            lanes._look_again(0.0)  # pyright: ignore[reportPrivateUsage]
            assert tries.count - before <= ONE_TURN
        assert len(tries.batches) == waiting
        assert len(hosts[2].lane.waiters) == waiting
    nursery.cancel_scope.cancel()


async def fill_with(transmitter: Transmitter, data: bytes) -> None:
    """Send until there is no room."""
    with pytest.raises(trio.WouldBlock):
        while True:
            transmitter.send_nowait((data,), 0)


@pytest.mark.parametrize("event", ["a channel is closed", "the handle ends"])
async def test_many_are_turned_away_in_turns(
    event: str, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    with counted_turns():
        sockets = Sockets(*HOSTS)
    context = sockets.world.context
    hosts = sockets.world.handle.hosts
    owner = ChannelState()
    outcomes: list[type[Exception] | None] = []

    async def send(number: int) -> None:
        try:
            await transmitter.send((b"%d" % number,), 0, None, owner)
        except trio.ClosedResourceError as error:
            outcomes.append(type(error))
        else:
            outcomes.append(None)

    async with sockets.running() as transmitter:
        sockets.hold(*HOSTS)
        await fill(transmitter)
        for number in range(MANY):
            nursery.start_soon(send, number)
        await wait_all_tasks_blocked()
        assert len(hosts[2].lane.waiters) == MANY
        context.turns.resumed(context.turns.round)
        rounds = context.turns.round
        if event == "the handle ends":
            await transmitter.end()
            assert context.turns.round > rounds + 10
        else:
            owner.closed = True
            transmitter.close_channel(owner)
            assert len(hosts[2].lane.waiters) > MANY - ONE_TURN
            # Nobody of them is let in any more, whatever room there is.
            sockets.release(*HOSTS)
            nursery.start_soon(context.chores.run)
        await wait_all_tasks_blocked()
        assert outcomes == [trio.ClosedResourceError] * MANY
        assert not any(host.lane.waiters for host in hosts.values())
    nursery.cancel_scope.cancel()
