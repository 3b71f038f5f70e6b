"""Two namespaces joined by wires that a test may make bad, and a third way: through a router.

A wire is a tap device in each namespace, both called `tap{i}`, and a relay that carries frames
between them. What was made is removed whatever happens in the block.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE
from typing import Any, ClassVar, Final

import trio

from tests.interop.namespaces import NamespacePair, built, namespaces_missing
from tests.interop.pairs import POLL
from tests.network.relay import Conditions, Tallies

ROOT: Final = Path(__file__).resolve().parents[2]
# More than a test sends before the relay has a turn: the kernel would drop the rest unseen.
QUEUE: Final = 20_000
SEED: Final = 1


def wires_missing() -> str | None:
    """None when namespaces can be joined by wires here, else why not and what to do."""
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun: load the kernel module tun"
    return namespaces_missing()


class RelayDiedError(RuntimeError):
    """The relay has ended; the message carries its last words."""


class TapPair(NamespacePair):
    """Namespaces whose pairs of devices are taps: `tap{i}` on both sides."""

    DEVICE: ClassVar[str] = "tap"

    def _join(self, i: int) -> None:
        for side in (0, 1):
            self._make(side, i)

    def _make(self, side: int, i: int) -> None:
        self.ip(side, "tuntap", "add", "dev", self.device(i), "mode", "tap")
        self.ip(side, "link", "set", self.device(i), "txqueuelen", str(QUEUE))

    def delete_device(self, i: int, *, side: int = 0) -> None:
        """Delete one side's device, with its addresses and routes."""
        self.ip(side, "link", "delete", self.device(i))

    def create_device(self, i: int, *, side: int = 0, mtu: int = 1500) -> None:
        """Make it again as it was; it has no carrier until the relay has attached to it."""
        self._make(side, i)
        self._dress(side, i, mtu)

    def move_address(self, i: int, to: int, *, side: int = 0) -> None:
        """Take the IPv4 address of pair i from its device, and give it to that of another pair."""
        address = f"{self.v4(side, i)}/24"
        self.ip(side, "address", "delete", address, "dev", self.device(i))
        self.ip(side, "address", "add", address, "dev", self.device(to))

    @contextmanager
    def slow(
        self, i: int, rate: int, queue: int, *, side: int = 0
    ) -> Generator[Callable[[], int], None, None]:
        """A device sends that many bytes a second, and queues that many more, in the block.

        The answer tells how many packets found no room in the queue.
        """
        device = ("dev", self.device(i), "root")
        limits = ("rate", f"{rate * 8}bit", "burst", "4kb", "limit", str(queue))

        def dropped() -> int:
            said = self.run(side, "tc", "-json", "-statistics", "qdisc", "show", *device)
            return int(json.loads(said)[0]["drops"])

        self.run(side, "tc", "qdisc", "add", *device, "tbf", *limits)
        try:
            yield dropped
        finally:
            self.run(side, "tc", "qdisc", "delete", *device)

    def rule(self, side: int, chain: str, i: int, *target: str) -> AbstractContextManager[None]:
        """A rule of the firewall for UDP on that device, as long as the block lasts.

        `chain` is INPUT or OUTPUT; `target` is the rest of the rule, as `"-j", "DROP"`.
        """
        way = {"INPUT": "-i", "OUTPUT": "-o"}[chain]
        return self.rules(side, " ".join((chain, "-p udp", way, self.device(i), *target)))


class Wires:
    """The namespaces, and what the wires between them do. Made by `open_wires`."""

    def __init__(self, namespaces: TapPair, process: trio.Process) -> None:
        self.namespaces: Final = namespaces
        self._process = process
        self._lock = trio.Lock()
        self._answers = bytearray()

    @property
    def pid(self) -> int:
        """Of the relay."""
        return self._process.pid

    async def treat(self, wire: int, *, toward: int | None = None, **conditions: Any) -> None:
        """Give a wire these conditions and no others, toward one side or (None) both ways.

        They are those of `Conditions`; without any, it is a good wire again.
        """
        wanted = asdict(Conditions(**conditions))
        for side in (0, 1) if toward is None else (toward,):
            await self._call("set", wire=wire, toward=side, conditions=wanted)

    async def mend(self) -> None:
        """All wires are good from now on, and nothing is under way any more."""
        for wire in range(self.namespaces.links):
            await self.treat(wire)
        while await self._call("waiting"):  # noqa: ASYNC110
            await trio.sleep(POLL)

    async def tallies(self, wire: int, *, toward: int) -> Tallies:
        """What became of the datagrams that went that way so far."""
        answer = await self._call("tallies", wire=wire, toward=toward)
        return Tallies(Counter(answer["all"]), Counter(answer["data"]))

    async def set_carrier(self, wire: int, *, on: bool, side: int = 0) -> None:
        """Pull out the cable of one side, or plug it in."""
        await self._call("carrier", wire=wire, side=side, on=on)

    async def attach(self, wire: int, *, side: int = 0) -> None:
        """Join a device that was deleted and made again."""
        await self._call("attach", wire=wire, side=side)

    async def _call(self, command: str, **arguments: Any) -> Any:
        line = json.dumps({"do": command, **arguments}).encode() + b"\n"
        assert self._process.stdin is not None
        # Half a line, or an answer that nobody took, would spoil the next command.
        async with self._lock:
            with trio.CancelScope(shield=True):
                try:
                    await self._process.stdin.send_all(line)
                except trio.BrokenResourceError:
                    raise await self._death() from None
                return await self.read_answer()

    async def read_answer(self) -> Any:
        """The next line of the relay."""
        assert self._process.stdout is not None
        while b"\n" not in self._answers:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise await self._death()
            self._answers += chunk
        line, _, rest = bytes(self._answers).partition(b"\n")
        self._answers = bytearray(rest)
        return json.loads(line)

    async def _death(self) -> RelayDiedError:
        assert self._process.stderr is not None
        words = b"".join([chunk async for chunk in self._process.stderr]).decode()
        return RelayDiedError(f"the relay has ended: {words}")

    async def end(self) -> None:
        """The process is gone afterwards, and the wires with it."""
        with trio.CancelScope(shield=True):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def open_wires(wires: int = 1, *, mtu: int = 1500) -> AsyncGenerator[Wires, None]:
    """Two namespaces joined by that many wires; gone when the block ends."""
    with built(TapPair(wires), mtu) as namespaces:
        options = {"names": namespaces.names, "wires": wires, "seed": SEED}
        command = [sys.executable, "-m", "tests.network.relay", json.dumps(options)]
        process = await trio.lowlevel.open_process(
            command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT
        )
        opened = Wires(namespaces, process)
        try:
            await opened.read_answer()
            yield opened
        finally:
            await opened.end()
