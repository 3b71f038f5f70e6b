from __future__ import annotations

import attrs
import pytest

from knet_trio.errors import InvalidArgumentError
from knet_trio.message import Broadcast, Direction, Drop, FilterPacket, Message, Unicast


def test_a_message_is_its_three_parts() -> None:
    data, source, channel = Message(b"hello", 2, 3)
    assert (data, source, channel) == (b"hello", 2, 3)


def test_a_filter_sees_the_whole_packet() -> None:
    packet = FilterPacket(b"x", Direction.RX, this_host=1, source=2, channel=3)
    assert packet == (b"x", Direction.RX, 1, 2, 3)


class TestUnicast:
    def test_takes_one_host_or_several_by_id_or_name(self) -> None:
        assert Unicast(2).hosts == (2,)
        assert Unicast("beta").hosts == ("beta",)
        assert Unicast(["beta", 2]).hosts == ("beta", 2)

    def test_takes_any_iterable_of_host_ids(self) -> None:
        assert Unicast([2, 3]).hosts == (2, 3)
        assert Unicast({2}).hosts == (2,)
        assert Unicast(range(2, 4)).hosts == (2, 3)

    def test_names_each_host_once_in_order(self) -> None:
        assert Unicast([3, 2, 3, 2, 1]).hosts == (3, 2, 1)

    def test_may_be_empty(self) -> None:
        assert Unicast(()).hosts == ()

    @pytest.mark.parametrize("host", [-1, 65536, None, True, 2.0, b"beta", [2]])
    def test_refuses_what_is_no_host_id(self, host: object) -> None:
        with pytest.raises(InvalidArgumentError, match=r"host id|is not a host"):
            Unicast([2, host])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

    def test_keeps_the_channel_unless_told(self) -> None:
        assert Unicast([2]).channel is None
        assert Unicast([2], 5).channel == 5


def test_answers_are_values() -> None:
    assert Broadcast() == Broadcast(None)
    assert Broadcast(1) != Broadcast(2)
    assert Drop() == Drop()
    assert Unicast([2]) == Unicast((2,))
    assert len({Broadcast(), Drop(), Unicast([1]), Unicast([1])}) == 3
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Broadcast().channel = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
