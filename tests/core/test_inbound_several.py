"""Runs of fragments that go on from message to message, held against their packets one by one."""

from __future__ import annotations

import pytest

from knet_trio._core.onwire import Data
from knet_trio._core.runs import DataRun
from knet_trio._core.window import WINDOW_SIZE
from knet_trio.errors import DropCause
from tests.core.run_pairs import Both


def in_a_row(first: int, count: int, *, seq: int = 7, total: int = 3, skipped: int = 0) -> DataRun:
    """That many fragments of two bytes, from one message to the next."""
    each = [b"%02d" % i for i in range(skipped, skipped + count)]
    return DataRun(1, seq, 0, False, total, first, 0, each, total)


class TestSeveralMessages:
    """What is easily got wrong where they are put together in one go."""

    def begun(self, buffers: int = 3) -> Both:
        both = Both(buffers)
        both.one(Data(1, 6, 0, False, 1, 0, 0, b"before"))
        return both

    def test_those_that_are_whole_are_delivered(self) -> None:
        both = self.begun()
        assert both.run(in_a_row(1, 9)) == [b"000102", b"030405", b"060708"]
        assert both.run(in_a_row(1, 9)) == []
        assert both.drops[0] == {DropCause.DUPLICATE: 9}
        assert both.runs.newest == 9

    def test_the_first_ones_of_a_host(self) -> None:
        assert Both().run(in_a_row(1, 6)) == [b"000102", b"030405"]

    def test_the_rest_of_one_and_the_beginning_of_another(self) -> None:
        both = self.begun()
        assert both.run(in_a_row(1, 5)) == [b"000102"]
        assert both.runs.pending == 1
        after = in_a_row(3, 5, seq=8, skipped=5)
        assert both.run(after) == [b"030405", b"060708"]
        assert both.runs.pending == 1
        assert both.run(in_a_row(2, 2, seq=10, skipped=10)) == [b"091011"]
        assert not both.drops[0]

    def test_a_rest_without_a_beginning(self) -> None:
        both = self.begun()
        assert both.run(in_a_row(2, 8)) == [b"020304", b"050607"]
        assert both.runs.pending == 1
        assert both.run(in_a_row(1, 1)._replace(payloads=[b"AB"])) == [b"AB0001"]

    def test_those_that_are_there_are_not_delivered_again(self) -> None:
        both = self.begun()
        both.run(in_a_row(1, 7))
        assert both.run(in_a_row(1, 12)) == [b"060708", b"091011"]
        assert both.drops[0] == {DropCause.DUPLICATE: 6, DropCause.REPEATED_FRAGMENT: 1}

    def test_nor_those_that_come_late_over_another_link(self) -> None:
        both = self.begun()
        assert both.run(in_a_row(1, 6, seq=9)) == [b"000102", b"030405"]
        assert both.run(in_a_row(1, 9, seq=7)) == [b"000102", b"030405"]
        assert both.drops[0] == {DropCause.DUPLICATE: 3}

    def test_other_sizes_from_message_to_message(self) -> None:
        """As the packets of an encrypted train may have, which are padded."""
        both = self.begun()
        sizes = (3, 3, 1, 2, 2, 2, 4, 4, 4)
        run = in_a_row(1, 9)._replace(payloads=[b"x" * size for size in sizes])
        assert both.run(run) == [b"x" * 7, b"x" * 6, b"x" * 12]

    @pytest.mark.parametrize("sizes", [(2, 2, 3), (2, 3, 2), (3, 2, 2), (40000, 40000, 1)])
    def test_one_whose_sizes_do_not_fit(self, sizes: tuple[int, int, int]) -> None:
        both = self.begun()
        payloads = [b"x" * size for size in (2, 2, 2, *sizes, 2, 2, 2)]
        assert both.run(in_a_row(1, 9)._replace(payloads=payloads)) == [b"x" * 6, b"x" * 6]
        assert both.drops[0][DropCause.BAD_FRAGMENT] >= 1

    def test_the_largest_that_fit_and_larger_ones(self) -> None:
        both = self.begun()
        for last, delivered in ((32768, 2), (32767, 2)):
            run = in_a_row(1, 4, total=2)._replace(payloads=[bytes(32768), bytes(last)] * 2)
            assert len(both.run(run._replace(seq=both.number(1)))) == delivered
        run = in_a_row(1, 4, total=2)._replace(payloads=[bytes(32769), bytes(32768)] * 2)
        assert both.run(run._replace(seq=both.number(1))) == []

    @pytest.mark.parametrize("buffers", [1, 2, 3])
    def test_unfinished_ones_make_room_as_if_each_was_put_together(self, buffers: int) -> None:
        both = self.begun(buffers)
        for seq in (7, 8, 9):
            both.run(in_a_row(1, 2, seq=seq))
        assert len(both.run(in_a_row(1, 9, seq=10))) == 3
        assert both.runs.pending == buffers - 1
        both.check_what_is_known()

    @pytest.mark.parametrize("buffers", [1, 2, 3])
    @pytest.mark.parametrize("seq", range(9, 18))
    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_unfinished_ones_that_leave_the_window_meanwhile(
        self, buffers: int, seq: int, count: int
    ) -> None:
        """One of them was touched last, and is the oldest by its number."""
        both = self.begun(buffers)
        for number in (8, 12, 10):
            both.run(in_a_row(1, 2, seq=number))
        both.one(Data(1, seq + WINDOW_SIZE - 4, 0, False, 1, 0, 0, b"far on"))
        assert len(both.run(in_a_row(1, 3 * count, seq=both.number(1)))) == count
        both.check_what_is_known()

    @pytest.mark.parametrize("ahead", range(1, 6))
    def test_an_unfinished_one_of_the_same_number_long_ago(self, ahead: int) -> None:
        both = self.begun()
        both.run(in_a_row(1, 2, seq=6 + ahead))
        for seq in (*range(4000, 0x10000, 4000), 0xFFFE, 2):
            both.one(Data(1, seq, 0, False, 1, 0, 0, b"x"))
        assert both.runs.pending == 1
        assert len(both.run(in_a_row(1, 12, seq=5))) == 4
        assert both.runs.pending == 0
        both.check_what_is_known()

    def test_they_are_data_between_two_forced_pings(self) -> None:
        both = self.begun()
        both.ping(8, timed=False)
        both.run(in_a_row(1, 6))
        both.ping(9, timed=False)
        assert both.runs.newest == 8
        both.run(in_a_row(1, 6))
        both.ping(10, timed=False)
        assert both.runs.newest == 8

    def test_of_a_host_that_may_have_started_again(self) -> None:
        both = self.begun()
        both.run(in_a_row(1, 6, seq=100))
        both.contact_lost()
        assert both.run(in_a_row(1, 6, seq=7)) == [b"000102", b"030405"]
        assert both.runs.newest == 8
