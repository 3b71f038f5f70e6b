"""The parts of the bench that need no other process."""

from __future__ import annotations

import gc
import math
import socket
import time
from typing import Final

import attrs
import pytest
import trio

from knet_trio.cli.bench.bed import LIBKNET, OURS, Bed
from knet_trio.cli.bench.case import Case, Measured, Metric
from knet_trio.cli.bench.cases import CASES, choose
from knet_trio.cli.bench.dam import open_dam
from knet_trio.cli.bench.kinds.throughput import LEAST_MESSAGES, MOST_MESSAGES, window
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.peer.credits import STALL, Credits, credit_message
from knet_trio.cli.bench.peer.payload import payload
from knet_trio.cli.bench.peer.turns import TurnWatch
from knet_trio.cli.bench.result import CaseResult, Spread, quantile

# linux/udp.h
UDP_GRO: Final = 104


@attrs.frozen
class Imagined(Case):
    """Two numbers."""

    metrics = (Metric("rate", "rate", "1/s", True), Metric("loss", "lost", "%"))
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


def test_quantiles() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert math.isnan(quantile([], 0.5))


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
