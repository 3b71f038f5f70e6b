"""Packets of streams that come before the channel is open, or after it was closed."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from knet_trio import DropCause, Handle
from knet_trio._core.greeting import is_greeting_untrusted
from knet_trio._state.closed_channels import GREETED
from knet_trio.streams import open_streams
from knet_trio.streams._core.faults import Fault
from knet_trio.streams._core.replies import Replies
from knet_trio.streams._core.wire import Code
from knet_trio.streams._late_packets import LATE, LatePackets
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.streams.pairs import CHANNEL, open_handles, simulate

SLOW = Conditions(latency=0.05)


def lost(handle: Handle) -> int:
    assert ("is not open" in handle.explain()) == bool(handle.diagnose().closed_channels)
    return handle.statistics().drops[DropCause.NO_CHANNEL]


def test_late_packets_are_refused_and_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(b, channel=CHANNEL) as beta:
            async with open_streams(a, channel=CHANNEL) as alpha, alpha.messages() as messages:
                # Its greeting, too, is on its way when the streams end.
                await beta.send(1, b"first")
                await messages.receive()
                network.hold("10.0.0.2", "10.0.0.1", one_way=True)
                with trio.move_on_after(1):
                    await beta.send(1, b"on its way")
            network.release("10.0.0.2", "10.0.0.1", one_way=True)
            before = alpha.refused()["no_connection"]
            await trio.sleep(1)
            assert alpha.refused()["no_connection"] > before
            assert (lost(a), lost(b)) == (0, 0)

    simulate(main, conditions=SLOW)
    assert "are lost" not in caplog.text


def test_after_the_end_the_channel_is_free_and_messages_for_it_are_lost() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b):
            async with open_streams(a, channel=CHANNEL):
                pass
            a.open_channel(CHANNEL).close()
            sender = b.open_channel(CHANNEL)
            for number in range(3):
                await sender.send(b"a message that is longer than a header", to=1)
                await trio.sleep(LATE)
                assert lost(a) == number + 1

    simulate(main, conditions=SLOW)


def test_greetings_before_the_channel_is_open_are_not_lost_messages() -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_handles() as (a, b), open_streams(b, channel=CHANNEL) as beta:
            await trio.sleep(10)
            assert lost(a) == 0
            assert a.statistics().drops[DropCause.GREETING] > 0
            # Without streams there, somebody waits in vain: that has to be seen.
            with trio.move_on_after(10):
                await beta.request(1, b"anybody?")
            assert lost(a) > 0
            (closed,) = a.diagnose().closed_channels
            assert (closed.channel, closed.host_id) == (CHANNEL, 2)

    assert GREETED < 10
    simulate(main)


@pytest.mark.parametrize("checked", [True, False])
def test_only_greetings_are_greetings(checked: bool) -> None:
    replies = Replies(checked=checked)
    greeting = replies.hello(5, 0)
    assert is_greeting_untrusted(greeting)
    others = [
        replies.hello(5, 6),
        replies.unknown(5, 6),
        replies.closing(5, 6, Code.CLOSED, ""),
        greeting[:-1],
        greeting + b"\0",
        bytes(32),
    ]
    if checked:
        others.append(greeting[:8] + b"\1" + greeting[9:])
    assert not any(map(is_greeting_untrusted, others))


def test_packets_for_other_streams_are_left() -> None:
    replies = Replies(checked=True)
    faults: Counter[Fault] = Counter()
    late = LatePackets(2**64 - 2, faults)
    for ours in (2**64 - 2, 1, 1000):
        assert late.take(replies.unknown(ours, 7))
        assert late.take(replies.closing(7, ours, Code.CLOSED, ""))
    taken = faults[Fault.NO_CONNECTION]
    assert late.take(replies.hello(7, 0))
    assert not late.take(replies.closing(7, 2**40, Code.CLOSED, ""))
    assert not late.take(b"something else")
    assert dict(faults) == {Fault.NO_CONNECTION: taken + 1}
