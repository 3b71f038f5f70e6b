"""A file goes over a stream between two processes while cables are pulled out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Any, Final

import attrs
import pytest
import trio

from knet_trio import LinkPolicy
from tests.network.stream_process import STEP, Plan, make_file
from tests.network.wires import ROOT, Wires, open_wires

LIMIT: Final = 120.0
SIZE: Final = 24_000_000
SEED: Final = 5
# Bytes a second of each wire: the file takes long enough for all that is done meanwhile.
RATE: Final = 2_000_000
QUEUE: Final = 100_000
PORT: Final = 5405
SENDER: Final = 0
RECEIVER: Final = 1


class StreamProcess:
    """One of the processes, and what it has told so far."""

    def __init__(self, process: trio.Process) -> None:
        self.links: dict[int, bool] = {}
        self.bytes = 0
        self.result: dict[str, Any] = {}
        self._process = process
        self._changed = trio.lowlevel.ParkingLot()

    async def read(self) -> None:
        """Take what it tells, to its end."""
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        assert await self._process.wait() == 0

    def _take(self, line: dict[str, Any]) -> None:
        match line.pop("event"):
            case "link":
                self.links[line["link"]] = line["connected"]
            case "progress":
                self.bytes = line["bytes"]
            case _:
                self.result = line
        self._changed.unpark_all()

    async def wait_link(self, link: int) -> None:
        """Wait until a link of it is up."""
        while not self.links.get(link):
            await self._changed.park()

    async def wait_more(self, count: int) -> None:
        """Wait until it has received so many bytes more."""
        wanted = self.bytes + count
        while self.bytes < wanted:
            assert not self.result, "the file is there too soon for this test"
            await self._changed.park()


@asynccontextmanager
async def open_process(wires: Wires, side: int, plan: Plan) -> AsyncGenerator[StreamProcess]:
    """One of the processes, in its namespace."""
    command = [sys.executable, "-m", "tests.network.stream_process", json.dumps(attrs.asdict(plan))]
    process = await trio.lowlevel.open_process(
        wires.namespaces.within(side, *command), stdout=PIPE, cwd=ROOT
    )
    try:
        yield StreamProcess(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


async def pull(wires: Wires, wire: int, *, out: bool) -> None:
    """Pull the cable out at both ends, or plug it in."""
    for side in (SENDER, RECEIVER):
        await wires.set_carrier(wire, on=not out, side=side)
    # A tap takes in frames without a carrier too.
    if out:
        await wires.treat(wire, loss=1.0)
    else:
        await wires.treat(wire, rate=RATE, queue=QUEUE)


def make_plan(wires: Wires, side: int, policy: LinkPolicy) -> Plan:
    here, there = (
        [(wires.namespaces.v4(each, wire), PORT) for wire in range(wires.namespaces.links)]
        for each in (side, 1 - side)
    )
    size = SIZE if side == SENDER else 0
    return Plan(side + 1, 2 - side, here, there, policy.value, 0.1, 1.0, size, SEED)


@pytest.mark.parametrize("policy", [LinkPolicy.ACTIVE, LinkPolicy.PASSIVE])
async def test_a_file_arrives_while_cables_are_pulled_in_turn(policy: LinkPolicy) -> None:
    wanted = hashlib.sha256(make_file(SIZE, SEED)).hexdigest()
    with trio.fail_after(LIMIT):
        async with open_wires(2) as wires:
            for wire in (0, 1):
                await wires.treat(wire, rate=RATE, queue=QUEUE)
            async with (
                open_process(wires, RECEIVER, make_plan(wires, RECEIVER, policy)) as receiver,
                open_process(wires, SENDER, make_plan(wires, SENDER, policy)) as sender,
                trio.open_nursery() as nursery,
            ):
                both = (sender, receiver)
                for each in both:
                    nursery.start_soon(each.read)
                for wire in (0, 1, 0, 1):
                    # Else there would be none.
                    for link in (0, 1):
                        for each in both:
                            await each.wait_link(link)
                    await receiver.wait_more(STEP)
                    await pull(wires, wire, out=True)
                    await receiver.wait_more(STEP)
                    await pull(wires, wire, out=False)
            assert receiver.result == {"digest": wanted, "bytes": SIZE}
            assert sender.result == {"digest": wanted}
            for wire in (0, 1):
                lost = (await wires.tallies(wire, toward=RECEIVER)).all["lost"]
                assert lost > 0
