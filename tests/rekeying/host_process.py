"""A host of a cluster file in a process of its own, which a test stops in the middle of a step.

`python -m tests.rekeying.host_process FILE HOST SOCKET RATE`. It sends numbered messages to all
others and counts what is missing of theirs. Commands come on stdin, JSON lines; answers and what it
is held at go to stdout.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import trio

from knet_trio import Channel, Handle
from knet_trio.cluster import Cluster, KeyChange, KeyChangeFiles, open_cluster
from knet_trio.control import serve_control
from knet_trio.rekeying._service import serve_with

PATIENCE: Final = 20.0
_MESSAGE: Final = struct.Struct("!IQ")


def write_line(**facts: object) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class HeldFiles(KeyChangeFiles):
    """The files on the disk; a step that is held never ends, so the process is killed in it."""

    held: str | None = None

    def write_change(self, change: KeyChange) -> None:
        self._hold("before set")
        super().write_change(change)
        self._hold("after set")

    def write_key(self, key: bytes) -> None:
        self._hold("before use")
        super().write_key(key)
        self._hold("after use")

    def remove_change(self) -> None:
        self._hold("before clear")
        super().remove_change()
        self._hold("after clear")

    def _hold(self, step: str) -> None:
        if HeldFiles.held == step:
            write_line(held=step)
            threading.Event().wait()


class Flow:
    """Sends numbered messages to all, and counts what is missing of those of others."""

    def __init__(self, channel: Channel, rate: float) -> None:
        self._channel = channel
        self._rate = rate
        self._incarnation = int.from_bytes(os.urandom(4))
        self._seen: dict[tuple[int, int], list[int]] = {}

    async def send(self) -> None:
        number, begun = 0, trio.current_time()
        while True:
            await self._channel.send(_MESSAGE.pack(self._incarnation, number))
            number += 1
            await trio.sleep_until(begun + number / self._rate)

    async def receive(self) -> None:
        async for message in self._channel:
            incarnation, number = _MESSAGE.unpack(message.data)
            self._seen.setdefault((message.source, incarnation), []).append(number)

    def take(self) -> dict[int, list[int]]:
        """For each host how many messages came since this was called last, and are missing."""
        counts: dict[int, list[int]] = {}
        for (source, _), numbers in self._seen.items():
            count = counts.setdefault(source, [0, 0])
            count[0] += len(numbers)
            # What comes twice counts as well.
            count[1] += abs(numbers[-1] - numbers[0] + 1 - len(numbers))
            count[1] += len(numbers) - len(set(numbers))
        self._seen.clear()
        return counts


def make_files(cluster: Cluster) -> HeldFiles:
    assert cluster.key_file is not None
    return HeldFiles(cluster.key_file)


async def obey(handle: Handle, flow: Flow) -> None:
    """Carry out commands, to the end of the input."""
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await _obey(json.loads(line), handle, flow)


async def _obey(command: dict[str, Any], handle: Handle, flow: Flow) -> None:
    match command["do"]:
        case "hold":
            HeldFiles.held = command["step"]
            write_line(done=True)
        case "wait":
            for host_id in command["hosts"]:
                await handle.get_host(host_id).wait_reachable()
            write_line(done=True)
        case _:
            write_line(counts=flow.take())


async def run(path: str, host: int, socket: str, rate: float) -> None:
    in_thread: Callable[..., Any] = trio.to_thread.run_sync
    async with (
        open_cluster(path, host=host) as handle,
        serve_with(handle, PATIENCE, make_files, in_thread) as rekeying,
        serve_control(handle, socket, rekey=rekeying.answer_control),
        trio.open_nursery() as nursery,
    ):
        flow = Flow(handle.open_channel(0, receive_buffer=4096), rate)
        nursery.start_soon(flow.receive)
        nursery.start_soon(flow.send)
        write_line(ready=True)
        await obey(handle, flow)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(run, sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
