"""The parts of the bench that need no other process."""

from __future__ import annotations

import gc
import io
import re
import socket
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from knet_trio.cli.bench.bed import LIBKNET, OURS, Bed
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.cases import CASES, choose
from knet_trio.cli.bench.dam import open_dam
from knet_trio.cli.bench.figures import MOVED, median, of_yardstick, ratio_marks, remarks
from knet_trio.cli.bench.kinds.throughput import LEAST_MESSAGES, MOST_MESSAGES, window
from knet_trio.cli.bench.libknet import build
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.markdown import BEGIN, END, MarkdownError, check, write
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.peer.commands import Answer, Arguments, carry_out
from knet_trio.cli.bench.peer.credits import STALL, Credits, credit_message
from knet_trio.cli.bench.peer.handles import OpenHandles
from knet_trio.cli.bench.peer.payload import payload
from knet_trio.cli.bench.peer.streaming import Ask, Handler, Streaming
from knet_trio.cli.bench.peer.traffic import Traffic
from knet_trio.cli.bench.peer.turns import TurnWatch
from knet_trio.cli.bench.report import BenchReport
from knet_trio.cli.bench.result import BenchResult, CaseResult
from knet_trio.cli.bench.spread import Spread
from knet_trio.cli.bench.yardstick import PARTS, Reading, Yardstick, read

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "performance.md"
# linux/udp.h
UDP_GRO: Final = 104


@attrs.frozen
class Imagined(Case):
    """Two numbers."""

    metrics = (Metric("rate", "rate", "1/s", True, of_message=True), Metric("loss", "lost", "%"))
    kind = "imagined"

    @property
    def name(self) -> str:
        return "imagined"

    @property
    def network(self) -> str:
        return "loopback"

    async def measure(self, bed: Bed, contender: str, network: Network) -> Measured:
        raise NotImplementedError


def test_ratios_are_of_the_same_round() -> None:
    case = Imagined()
    result = CaseResult(case, (OURS, LIBKNET))
    for ours, theirs, loss in ((10.0, 5.0, 0.0), (30.0, 10.0, 0.2), (8.0, 16.0, 0.3)):
        result.rounds.append(
            {OURS: {"rate": ours, "loss": loss}, LIBKNET: {"rate": theirs, "loss": 0.0}}
        )
    rate, loss_metric = case.metrics
    assert result.spread(OURS, rate) == Spread(10.0, 8.0, 30.0)
    assert result.ratio(OURS, LIBKNET, rate) == Spread(2.0, 0.5, 3.0)
    assert result.ratio(OURS, LIBKNET, loss_metric) is None
    assert result.troubled(OURS)
    assert not result.troubled(LIBKNET)
    assert result.as_json(OURS)["too_much_lost"] == [OURS]


def test_a_difference_is_shown_by_rounds_that_agree() -> None:
    result = imagined_result(reading())
    assert result.shows(Spread(4.0, 2.0, 8.0))
    assert result.shows(Spread(0.5, 0.2, 0.9))
    assert not result.shows(Spread(1.5, 0.9, 2.0))
    del result.rounds[1:]
    assert not result.shows(Spread(4.0, 4.0, 4.0))


def test_patterns() -> None:
    assert choose([]) == list(CASES)
    assert [case.name for case in choose(["connect"])] == ["connect"]
    assert {case.kind for case in choose(["load", "memory/*"])} == {"load", "memory"}
    with pytest.raises(ValueError, match="no case fits"):
        choose(["nothing"])


def test_credits_bound_what_is_under_way() -> None:
    credits = Credits(100, 2, moved_at=0.0)
    credits.sent = 100
    assert credits.room == 0
    credits.take(credit_message(2, 60), now=0.1)
    # The other has said nothing yet.
    assert credits.room == 0
    credits.take(credit_message(3, 40), now=0.1)
    assert credits.in_flight == 60
    credits.take(b"no credit", now=0.1)
    assert credits.in_flight == 60


def test_what_no_credit_comes_for_is_given_up() -> None:
    credits = Credits(100, 1, moved_at=0.0)
    credits.sent = 100
    assert not credits.must_probe(STALL / 2, draining=False)
    assert credits.must_probe(STALL, draining=False)
    assert credits.given_up == 0
    credits.take(credit_message(2, 90), now=1.5 * STALL)
    assert not credits.must_probe(2 * STALL, draining=False)
    assert credits.must_probe(3 * STALL, draining=False)
    assert credits.must_probe(4.5 * STALL, draining=False)
    assert credits.given_up == 10
    assert credits.room == 100


def test_windows() -> None:
    assert window(64) == MOST_MESSAGES
    assert LEAST_MESSAGES < window(8192) < MOST_MESSAGES
    assert window(65000) == LEAST_MESSAGES


def test_payloads() -> None:
    assert len(payload("random", 1000)) == len(payload("text", 1000)) == 1000
    assert payload("text", 200).decode().isprintable()


# The yardstick.


def reading(checkpoint: float = 10e-6, datagram: float = 5e-6) -> Reading:
    return {"checkpoint": checkpoint, "datagram": datagram, "loop": 50e-9, "seal": 4e-6}


def imagined_result(*readings: Reading, loss: float = 0.0) -> CaseResult:
    result = CaseResult(Imagined(), (OURS, LIBKNET), yardstick=Yardstick(list(readings)))
    for ours in (20_000.0, 40_000.0, 10_000.0):
        result.rounds.append(
            {OURS: {"rate": ours, "loss": loss}, LIBKNET: {"rate": 5_000.0, "loss": 0.0}}
        )
    return result


async def test_a_reading_has_all_parts_and_leaves_other_tasks_their_turns() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        measured = await read(1)
        nursery.cancel_scope.cancel()
    assert set(measured) == {part.key for part in PARTS}
    assert all(0 < seconds < 1 for seconds in measured.values())
    assert turns > 10


async def test_a_reading_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await read()
    assert scope.cancelled_caught


def test_rates_and_times_are_told_in_what_the_machine_takes() -> None:
    rate, loss = Imagined.metrics
    result = imagined_result(reading(), reading(), reading())
    # 50 µs a message, where a datagram takes 5.
    assert result.in_datagrams(OURS, rate) == pytest.approx(10.0)
    assert result.in_datagrams(LIBKNET, rate) == pytest.approx(40.0)
    assert result.in_datagrams(OURS, loss) is None
    assert result.yardstick.of("ms", 1.0) == pytest.approx(200.0)
    assert result.yardstick.of("s", 1.0) == pytest.approx(200_000.0)
    assert result.yardstick.of("1/s", 0.0) is None
    assert result.yardstick.of("MiB", 1.0) is None
    assert of_yardstick(result.yardstick) == "10 / 5 / 50 / 4"


def test_a_machine_that_was_not_the_same_throughout_is_marked() -> None:
    steady = imagined_result(reading(), reading(11e-6), reading())
    moved = imagined_result(reading(), reading(11e-6), reading(13e-6))
    assert steady.yardstick.moved == []
    assert ratio_marks(steady, LIBKNET) == ""
    assert [part.key for part in moved.yardstick.moved] == ["checkpoint"]
    assert ratio_marks(moved, LIBKNET) == f" {MOVED}"
    assert of_yardstick(moved.yardstick).endswith(MOVED)
    assert not any(remark.startswith(MOVED) for remark in remarks([steady]))
    assert any("20 % within the case (1 of 2)" in remark for remark in remarks([steady, moved]))
    measured = moved.as_json(OURS)
    assert measured["yardstick"]["checkpoint"] == {
        "unit": "µs",
        "median": 11.0,
        "least": 10.0,
        "greatest": 13.0,
        "moved": True,
        "readings": [10.0, 11.0, 13.0],
    }
    assert not measured["yardstick"]["loop"]["moved"]
    assert measured["metrics"]["rate"]["contenders"][OURS]["in_sendto_recv"] == 10.0


def test_without_readings_there_is_no_yardstick() -> None:
    result = imagined_result()
    assert result.in_datagrams(OURS, Imagined.metrics[0]) is None
    assert result.yardstick.moved == []
    assert of_yardstick(result.yardstick) == ""
    assert result.as_json(OURS)["yardstick"] == {}


def test_loss_is_marked_and_told() -> None:
    lossy = imagined_result(reading(), loss=0.5)
    assert ratio_marks(lossy, LIBKNET) == " !"
    loss = Imagined.metrics[1]
    assert (median(lossy, OURS, loss), median(lossy, LIBKNET, loss)) == ("0.5 !", "0")
    assert [remark for remark in remarks([lossy]) if remark.startswith("!")]
    lossless, _ = remarks([imagined_result(reading())])
    assert lossless == "No rate was measured at which 0.1 % or more was lost."


def test_how_far_the_yardstick_went_over_the_whole_run_is_told() -> None:
    _, texts = remarks([imagined_result(reading()), imagined_result(reading(12e-6))])
    assert texts == (
        "The yardstick over all cases: checkpoint 10 – 12 µs, sendto+recv 5 – 5 µs,"
        " loop 50 – 50 ns, seal 4 – 4 µs"
    )


# Tables.


def test_the_tables_have_ratios_ranges_and_the_yardstick() -> None:
    output = io.StringIO()
    BenchReport(output).summarize([imagined_result(reading(), reading(13e-6))])
    ours, libknet = (
        line for line in output.getvalue().splitlines() if "11.5 / 5 / 50 / 4 ~" in line
    )
    assert OURS in ours
    assert "20,000   10,000 – 40,000" in ours
    assert "×4.00 ~   ×2.00 – ×8.00" in libknet


def machine() -> Machine:
    return attrs.evolve(Machine.look(), cpu="A CPU", cpus=3, kernel="6.0", libknet="1.25")


def test_the_machine_is_told() -> None:
    assert "A CPU, 3 CPUs" in machine().text
    assert "kernel 6.0, CPython 3." in machine().text
    assert machine().text.endswith(", libknet 1.25")


def test_a_document_keeps_what_is_around_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\n## After\n")
    result = imagined_result(reading(), reading())
    measured = BenchResult([result], Yardstick([reading(), reading(12e-6)]))
    for _ in range(2):
        check(path)
        write(path, measured, machine(), ["--pairs", "3"])
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n\nMeasured ")
    assert text.endswith(f"\n{END}\n\n## After\n")
    assert "old" not in text
    assert "    knet-trio bench --pairs 3\n" in text
    assert "| checkpoint [µs] | a checkpoint of Trio, its loop once around | 10 | 12 |" in text
    assert (
        "| `imagined` rate [1/s] | 20,000 (10,000 – 40,000) | libknet | 5,000"
        " | **×4.00** (×2.00 – ×8.00) | 10 : 40 | 10 / 5 / 50 / 4 |"
    ) in text
    assert "| `imagined` | libknet | 0 |" in text


def test_a_case_of_one_alone_has_a_row_too(tmp_path: Path) -> None:
    path = tmp_path / "new.md"
    result = CaseResult(Imagined(), (OURS,), yardstick=Yardstick([reading()]))
    result.rounds.append({OURS: {"rate": 1000.0, "loss": 0.0}})
    measured = BenchResult([result], Yardstick([reading(), reading()]))
    write(path, measured, machine(), [])
    row = "| `imagined` rate [1/s] | 1,000 | – | – | – | 200 | 10 / 5 / 50 / 4 |"
    assert row in path.read_text()


def test_no_other_document_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "letter.md"
    path.write_text(f"{BEGIN} and no end")
    with pytest.raises(MarkdownError, match="without the lines"):
        check(path)
    with pytest.raises(MarkdownError, match="without the lines"):
        write(path, BenchResult([], Yardstick([reading(), reading()])), machine(), [])
    assert path.read_text() == f"{BEGIN} and no end"


def test_the_published_tables_have_every_case() -> None:
    check(DOCUMENT)
    part = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    published = set(re.findall(r"^\| `([^`]+)`", part, re.MULTILINE))
    # Those of model `aead` are measured by a run of their own.
    known = {case.name for case in CASES if not case.name.startswith("aead/")}
    assert known <= published
    # Which compressors there are is another thing here than there.
    assert all(name.startswith("turns/flood/") for name in published - known)
    widths = [line.count(" | ") for line in part.splitlines() if line.startswith("| `")]
    assert min(widths) >= 2


# The C source.


async def test_the_c_source_comes_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "bin" / "gcc"
    compiler.parent.mkdir()
    # What it is told to compile, instead of a program.
    compiler.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$3"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    program = await build(None, tmp_path)
    compiled = [Path(word) for word in program.read_text().split() if word.endswith(".c")]
    assert "main.c" in {source.name for source in compiled}
    # Out of the package, which may be an archive, with what they include.
    assert {source.parent for source in compiled} == {tmp_path / "source"}
    assert (tmp_path / "source" / "peer.h").read_text().startswith("/*")


# Turns.


async def test_a_long_turn_is_noticed() -> None:
    async def hold_the_loop() -> None:
        while time.thread_time() < until:
            pass

    watch = TurnWatch()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.watch)
        await trio.sleep(0.01)
        until = time.thread_time() + 0.05
        nursery.start_soon(hold_the_loop)
        while max(watch.measured.waits, default=0.0) < 0.04:  # noqa: ASYNC110  # it has no event
            await trio.sleep(0.001)
        gc.collect()
        nursery.cancel_scope.cancel()
    assert 0.04 < max(watch.measured.turns) < 0.06
    assert max(watch.measured.waits) < 0.06
    assert max(watch.measured.delays) > 0.04
    assert watch.measured.collections


# A dam in a link.


async def test_a_dam_lets_out_every_other_packet_in_trains() -> None:
    with trio.fail_after(10), bound() as low, bound() as high:
        low.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        async with open_dam(low.getsockname(), high.getsockname()) as dam:
            await low.sendto(b"up", dam.low)
            assert await high.recvfrom(100) == (b"up", dam.high)
            await high.sendto(b"down", dam.high)
            assert await low.recvfrom(100) == (b"down", dam.low)
            dam.close_gates(4)
            for number in range(8):
                await high.sendto(b"held %d" % number, dam.high)
            await dam.wait_filled()
            await dam.open_gates(low.getsockname())
            train, _ = await low.recvfrom(1000)
            await high.sendto(b"free", dam.high)
            assert await low.recvfrom(1000) == (b"free", dam.low)
    assert train == b"held 1held 3held 5held 7"


def bound() -> trio.socket.SocketType:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return trio.socket.from_stdlib_socket(sock)


class BrokenStreamer:
    """Streams to a process that has gone."""

    async def connect(self, arguments: Arguments) -> trio.abc.Stream:
        raise trio.BrokenResourceError("the other side has gone")

    async def serve(
        self,
        arguments: Arguments,
        handler: Handler,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        raise NotImplementedError

    async def answer(
        self,
        arguments: Arguments,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        raise NotImplementedError

    def asking(self, arguments: Arguments) -> AbstractAsyncContextManager[Ask]:
        raise NotImplementedError


async def test_a_command_that_fails_is_answered() -> None:
    async with trio.open_nursery() as nursery:
        commands = Streaming(BrokenStreamer(), nursery).commands
        now = time.monotonic()
        moments = {name: str(now + 5) for name in ("begin", "end", "stop")}
        feeding = carry_out(commands, "feed", Arguments(moments))
        assert await feeding == {"error": "feed: the stream broke: the other side has gone"}
        # What a client that is none may ask for.
        traffic = Traffic(OpenHandles(nursery), nursery).commands
        said = await carry_out(traffic, "pour", Arguments({"handle": "inf"}))
        assert set(said) == {"error"}

        async def divide(arguments: Arguments) -> Answer:
            return {"rate": 1 / arguments.number("rate")}

        said = await carry_out({"divide": divide}, "divide", Arguments({"rate": "0"}))
        assert said == {"error": "divide: float division by zero"}
