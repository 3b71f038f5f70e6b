"""Cut the first of two networks under each contender: ``python -m tests.comparison``.

It needs root, iproute2, iptables, libknet, and what the tests need. For each cut and contender
there are two network namespaces, joined by two veth pairs. A message of 64 bytes is sent every
5 ms; after some time the first pair is cut for good.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from knet_trio.cli.bench.network import Veth, open_veth
from tests.comparison.message import INTERVAL
from tests.comparison.peers import CONTENDERS

CUTS: Final = ("interface-down", "black-hole")
LINKS: Final = 2
# Seconds until links are old: for ten seconds a young one has a longer timeout, in libknet too. The
# others have to be connected, no more.
SETTLE: Final = 11.0
SETTLE_OTHERS: Final = 2.0
BEFORE: Final = 1.0
# How long a contender has to get over the cut.
AFTER: Final = 15.0
START_LIMIT: Final = 30.0
# A message that took longer was held up by the cut.
LATE: Final = 1.0


class Side:
    """The process of one side."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._read = b""

    async def hear(self) -> Any:
        """Return what the process says next."""
        assert self._process.stdout is not None
        while b"\n" not in self._read:
            more = await self._process.stdout.receive_some()
            if not more:
                raise RuntimeError("the process of a contender has ended; it says why")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    async def go_on(self) -> None:
        """Give the process a word."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"go on\n")


@attrs.frozen
class Outcome:
    """What came of a cut, in seconds and messages.

    Attributes:
        again: From the cut to the first message that was sent after it; infinite if none came.
        lost: The share of messages sent after the cut that never came.
        late: The share of them that took longer than a second.
    """

    again: float
    lost: float
    late: float


def judge(arrivals: Iterable[tuple[float, float]], cut: float, ends: float) -> Outcome:
    """Compare what has arrived with what was sent from the cut to a second before the end."""
    ends -= LATE
    after = [(sent, came) for sent, came in arrivals if cut < sent < ends]
    wanted = (ends - cut) / INTERVAL
    return Outcome(
        min((came for _, came in after), default=math.inf) - cut,
        max(0.0, 1 - len(after) / wanted),
        sum(came - sent > LATE for sent, came in after) / wanted,
    )


@asynccontextmanager
async def open_side(veth: Veth, side: int, *arguments: str) -> AsyncGenerator[Side]:
    """Start one side of a contender in its namespace."""
    command = ["ip", "netns", "exec", str(veth.namespace(side)), sys.executable]
    command += ["-m", "tests.comparison.peers", *arguments]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
            )
        )
        yield Side(process)
        nursery.cancel_scope.cancel()


async def allow_subflows(veth: Veth) -> None:
    """Let MPTCP use the second pair too: it has to be told, on both sides."""
    for side in (0, 1):
        ip = ["ip", "-netns", str(veth.namespace(side)), "mptcp"]
        limits = ["limits", "set", "subflow", "2", "add_addr_accepted", "2"]
        await trio.run_process([*ip, *limits])
    signal = ["endpoint", "add", veth.address(1, 1), "dev", "veth1", "signal"]
    await trio.run_process([*ip, *signal])


async def measure(contender: str, cut: str, settle: float, after: float) -> Outcome:
    """Have one contender send and receive while the first pair is cut."""
    seconds = str(BEFORE + after)
    async with open_veth(LINKS) as veth:
        if contender == "MPTCP":
            await allow_subflows(veth)
        async with (
            open_side(veth, 1, contender, "receive", seconds) as receiver,
            open_side(veth, 0, contender, "send", seconds) as sender,
        ):
            with trio.fail_after(START_LIMIT):
                await receiver.hear()
                await sender.hear()
            await trio.sleep(settle)
            await sender.go_on()
            await trio.sleep(BEFORE)
            if cut == "interface-down":
                await veth.take_down(0, 0)
            else:
                await veth.lose_all(0)
            at = time.monotonic()
            await trio.sleep(after)
            ends = time.monotonic()
            await receiver.go_on()
            arrivals: list[tuple[float, float]] = await receiver.hear()
    return judge(arrivals, at, ends)


def show(outcome: Outcome) -> str:
    """Return the cells of a row."""
    again = f"{1e3 * outcome.again:.0f} ms" if outcome.again < math.inf else "never"
    return f"{again} | {round(100 * outcome.lost, 1):g} % | {round(100 * outcome.late, 1):g} %"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.comparison", description=__doc__)
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="default: all")
    parser.add_argument("--cut", action="append", choices=CUTS, help="default: both")
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds until it begins")
    parser.add_argument("--after", type=float, default=AFTER, help="seconds after the cut")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{datetime.date.today()}, Linux {platform.release()}, {os.cpu_count()} CPUs, ", end="")
    print(f"Python {platform.python_version()}, load {load:.1f} before the first\n")
    print("| | cut | messages arrive again after | never came | came over a second late |")
    print("| --- | --- | --- | --- | --- |")
    for cut in arguments.cut or CUTS:
        for contender in arguments.contender or CONTENDERS:
            has_links = "knet" in contender
            settle = arguments.settle if has_links else min(SETTLE_OTHERS, arguments.settle)
            outcome = trio.run(measure, contender, cut, settle, arguments.after)
            print(f"| {contender} | {cut} | {show(outcome)} |", flush=True)


if __name__ == "__main__":
    main()
