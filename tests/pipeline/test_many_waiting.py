"""What it takes to look after those who wait in front of many lanes: it goes by their number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.host import HostState
from knet_trio._state.send_lane import Batch, Waiter
from tests.pipeline.test_send_lanes import Sockets, fill

HOSTS = range(2, 25)
WAITING = 3


class Tries:
    """Counts how often it is looked whether something may enter."""

    def __init__(self, transmitter: Transmitter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        try_enter = transmitter._lanes._try_enter  # pyright: ignore[reportPrivateUsage]

        def try_noted(batch: Batch, hosts: Sequence[HostState], waiter: Waiter | None) -> bool:
            self.count += 1
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
