"""Nobody waits for somebody else on the way in: told in pieces of work, not in time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._compress import Decompressors
from knet_trio._state.receive_lane import MOST_BYTES, MOST_MESSAGES, ReceiveLane, WaitingMessage
from knet_trio.errors import DropCause
from knet_trio.message import Message
from tests.pipeline.receiving import BROKEN, FAST, SLOW, end, open_way, remove
from tests.state.fakes import address


class TestOneHostHoldsUpNoOther:
    async def test_a_slow_message_waits_in_its_own_lane(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"slow", compress=SLOW)
            way.send(2, b"after it")
            await way.wait_in_thread()
            way.send(3, b"plain")
            way.send(4, b"fast", compress=FAST)
            way.ping(2)
            way.ping(3)
            await wait_all_tasks_blocked()
            # Others go on, and control packets act, the slow host's own too.
            assert way.got() == [b"3plain", b"4fast"]
            assert way.pongs() == [1, 1, 0]
            way.release()
            assert await way.receive(2) == [b"2slow", b"2after it"]

    async def test_hosts_take_turns_at_the_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, *[b"2" for _ in range(50)], compress=SLOW)
            await way.wait_in_thread()
            way.send(3, b"3", b"3", compress=SLOW)
            way.send(4, b"4", compress=SLOW)
            await wait_all_tasks_blocked()
            way.held = False
            way.release()
            await way.receive(53)
            assert way.opened[:7] == [b"c2", b"c3", b"c4", b"c2", b"c3", b"c2", b"c2"]

    async def test_fast_ones_take_turns_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, *[b"%d" % number for number in range(1000)], compress=FAST)
            way.send(3, b"here", compress=FAST)
            way.send(4, b"plain")
            await wait_all_tasks_blocked()
            got = way.got()
            assert len(got) == 1002
            # One turn of work, and one piece more for each of two tasks: then it is their turn.
            assert got.index(b"3here") < 200
            assert got.index(b"4plain") < 200
            assert [one for one in got if one.startswith(b"2")] == [b"2%d" % n for n in range(1000)]

    async def test_pings_are_answered_while_lanes_are_full(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, *[b"x"] * (MOST_MESSAGES + 100), compress=SLOW)
            way.ping(2)
            way.ping(4)
            await way.wait_in_thread()
            await wait_all_tasks_blocked()
            assert way.pongs() == [1, 0, 1]
            assert way.drops == {DropCause.RECEIVE_QUEUE_FULL: 100}

    async def test_others_run_between_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, *[b"x"] * 2000, compress=FAST)
            rounds: list[int] = []
            while len(way.opened) < 2000:
                before = len(way.opened)
                await trio.lowlevel.checkpoint()
                rounds.append(len(way.opened) - before)
            # 32 looks at the clock are a turn. Two tasks do the work, so there is a piece more, and
            # two turns may pass from one moment of this task to its next.
            assert max(rounds) <= 2 * 33
            assert len(rounds) > 2000 // 66


class TestOrder:
    async def test_nothing_overtakes_what_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"0", compress=SLOW)
            await way.wait_in_thread()
            way.send(2, b"1")
            way.send(2, b"2", compress=FAST)
            way.send(2, b"3", b"4", b"5")
            way.send(2, b"6", compress=SLOW)
            way.send(2, b"7")
            await wait_all_tasks_blocked()
            way.held = False
            way.release()
            assert await way.receive(8) == [b"2%d" % number for number in range(8)]
            assert way.drops == {}
            # It is as it was: what comes next goes through at once.
            way.send(2, b"8")
            await wait_all_tasks_blocked()
            assert way.got() == [b"28"]

    async def test_a_host_that_starts_again_never_passes_older_data(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.ping(2, seq=1)
            way.send(2, b"old", compress=SLOW)
            await way.wait_in_thread()
            way.ping(2, seq=0)
            await wait_all_tasks_blocked()
            way._seqs[2] = 0  # pyright: ignore[reportPrivateUsage]
            way.send(2, b"new")
            await wait_all_tasks_blocked()
            way.release()
            assert await way.receive(2) == [b"2old", b"2new"]
            assert way.drops == {}


class TestLosses:
    async def test_no_memory_is_a_drop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.send(2, b"x", compress=BROKEN)
            way.send(2, b"after")
            await wait_all_tasks_blocked()
            assert way.got() == [b"2after"]
            assert way.drops == {DropCause.BAD_COMPRESSION: 1}

    @pytest.mark.parametrize("accepted", [[], [SLOW]])
    async def test_algorithms_that_are_not_accepted(
        self, accepted: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.world.context.accept_compression = frozenset(accepted)
            way.send(2, b"1", b"2", compress=FAST)
            way.send(2, b"3", compress=99)
            way.send(2, b"4")
            await wait_all_tasks_blocked()
            assert way.got() == [b"24"]
            assert way.drops == {DropCause.COMPRESSION_REFUSED: 3}
            assert way.opened == []
            way.send(2, b"5", compress=SLOW)
            if accepted:
                assert await way.receive(1) == [b"25"]

    async def test_a_host_that_is_removed_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"in the thread", b"behind it", compress=SLOW)
            way.send(2, b"and this")
            await way.wait_in_thread()
            remove(way, 2)
            assert way.drops == {DropCause.UNKNOWN_HOST: 3}
            # Another host takes its name and place.
            way.world.bring_up(way.world.add_link(way.world.add_host(2), dst=address(2)))
            way.held = False
            way.send(2, b"new")
            way.send(2, b"slow", compress=SLOW)
            way.release()
            assert await way.receive(2) == [b"2new", b"2slow"]
            assert way.drops == {DropCause.UNKNOWN_HOST: 3}

    async def test_the_end_acts_on_no_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.held = True
            way.send(2, b"1", b"2", compress=SLOW)
            way.send(3, b"3", compress=SLOW)
            await way.wait_in_thread()
            end(way)
            # What a socket gives in the same round of the loop.
            way.put(2, b"4")
            way.put(3, b"5")
        assert way.got() == []
        assert way.drops == {DropCause.NO_CHANNEL: 5}

    async def test_nor_on_what_waits_for_a_reader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            way.queue.put(2, [Message(b"before", 2, 0)] * 33)
            way.put(2, *[b"x"] * 10)
            lane = way.world.handle.hosts[2].receive_lane
            while lane.count == 10:
                await trio.lowlevel.checkpoint()
            left = lane.count
            end(way)
        assert len(way.got()) == 33 + 10 - left
        assert way.drops == {DropCause.NO_CHANNEL: left}

    async def test_a_flood_takes_no_message_of_others_from_a_channel(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_way(monkeypatch) as way:
            way.queue = way.open_channel(0, 64)
            for number in range(20):
                way.send(2, *[b"flood"] * 64)
                way.send(3, b"%d" % number)
                way.send(2, *[b"flood"] * 64, compress=FAST)
            await wait_all_tasks_blocked()
            got = way.got()
            assert [one for one in got if one.startswith(b"3")] == [b"3%d" % n for n in range(20)]
            assert len(got) == 64
            assert way.drops == {DropCause.CHANNEL_FULL: 20 * 129 - 64}


class TestBounds:
    def test_messages(self) -> None:
        lane = ReceiveLane(2)
        message = WaitingMessage(b"x", 0, None)
        assert all(lane.offer(message) for _ in range(MOST_MESSAGES))
        assert not lane.offer(message)
        lane.done()
        assert lane.offer(message)
        assert lane.close() == MOST_MESSAGES
        assert lane.count == 0

    def test_bytes(self) -> None:
        lane = ReceiveLane(2)
        message = WaitingMessage(bytes(65536), 0, None)
        assert sum(lane.offer(message) for _ in range(100)) == MOST_BYTES // 65536
        assert not lane.offer(WaitingMessage(b"x", 0, None))
        lane.done()
        assert lane.offer(message)


class TestSlowness:
    @pytest.mark.parametrize(("size", "slow"), [(8191, False), (8192, True)])
    def test_a_fast_algorithm_is_slow_for_what_was_made_to_be(self, size: int, slow: bool) -> None:
        zlib = Decompressors().find_untrusted(1)
        assert WaitingMessage(bytes(size), 0, zlib).is_slow is slow
        assert not WaitingMessage(bytes(size), 0, None).is_slow
