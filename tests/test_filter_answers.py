"""What a filter may answer with Unicast: ids, names and Host objects, one or several."""

from __future__ import annotations

import pytest

import knet_trio
from knet_trio import (
    Destination,
    DropCause,
    Unicast,
    UnknownHostError,
)
from tests.cluster import open_pair, receive, wait_dropped
from tests.drops import counted


def answering(answer: Unicast) -> knet_trio.Filter:
    return lambda _: answer


class TestFilters:
    async def test_answer_with_names_and_hosts(self) -> None:
        async with open_pair() as pair:
            beta = pair.a.get_host(2)
            beta.name = "beta"
            sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            several: list[Destination] = ["beta", beta, 2]
            answers = (Unicast(2), Unicast("beta"), Unicast(beta), Unicast(several))
            for answer in (*answers, Unicast({beta})):
                pair.a.set_filter(answering(answer))
                await sender.send(b"by send")
                await sender.send_sync(b"by send_sync")
                assert await receive(receiver, 2) == [b"by send", b"by send_sync"]
            assert counted(pair.a.statistics().drops) == {}

    async def test_on_the_way_in_too(self) -> None:
        async with open_pair() as pair:
            sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
            me = pair.b.add_host(2, name="me")
            for answer in (Unicast("me"), Unicast(me), Unicast(["nobody", "me"])):
                pair.b.set_filter(answering(answer))
                await sender.send(b"x")
                assert await receive(receiver, 1) == [b"x"]
            pair.b.set_filter(lambda _: Unicast(["nobody", pair.a.get_host(2), 1]))
            await sender.send(b"x")
            await wait_dropped(pair.b, DropCause.NOT_FOR_THIS_HOST, 1)

    @pytest.mark.parametrize("answer", [Unicast(99), Unicast("nobody"), Unicast(("nobody", "99"))])
    async def test_hosts_that_are_not_there_are_unknown_for_send_sync_too(
        self, answer: Unicast
    ) -> None:
        async with open_pair(filter=answering(answer)) as pair:
            channel = pair.a.open_channel(0)
            with pytest.raises(UnknownHostError, match="makes one"):
                await channel.send_sync(b"x")
            await channel.send(b"x")
            times = 2 * len(answer.hosts)
            drops = counted(pair.a.statistics().drops)
            assert drops == {DropCause.UNKNOWN_DESTINATION: times}

    async def test_send_sync_sends_nothing_if_one_of_several_is_not_there(self) -> None:
        answers = [Unicast(["nobody", 2]), Unicast([2, 99])]
        async with open_pair() as pair:
            receiver, channel = pair.b.open_channel(0), pair.a.open_channel(0)
            for number, answer in enumerate(answers, start=1):
                pair.a.set_filter(answering(answer))
                with pytest.raises(UnknownHostError, match="makes one"):
                    await channel.send_sync(b"to nobody")
                drops = counted(pair.a.statistics().drops)
                assert drops == {DropCause.UNKNOWN_DESTINATION: number}
            pair.a.set_filter(answering(Unicast([2, "2"])))
            await channel.send_sync(b"to one that is named twice")
            assert await receive(receiver, 1) == [b"to one that is named twice"]

    async def test_those_that_are_there_get_it_all_the_same(self) -> None:
        async with open_pair(filter=lambda _: Unicast(["nobody", 2])) as pair:
            receiver = pair.b.open_channel(0)
            await pair.a.open_channel(0).send(b"x")
            assert await receive(receiver, 1) == [b"x"]
            assert counted(pair.a.statistics().drops) == {DropCause.UNKNOWN_DESTINATION: 1}

    async def test_a_host_of_another_handle_is_unknown(self) -> None:
        async with open_pair() as pair:
            other = pair.b.get_host(1)
            pair.a.set_filter(lambda _: Unicast(other))
            with pytest.raises(UnknownHostError, match="another handle's"):
                await pair.a.open_channel(0).send_sync(b"x")
