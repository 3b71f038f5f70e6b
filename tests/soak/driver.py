"""What happens in a run: traffic, losses, cuts, new keys, and somebody who looks on."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from knet_trio import CryptoConfig
from tests.soak.ledger import Ledger
from tests.soak.messages import Name
from tests.soak.node import Settings
from tests.soak.nodes import NodeProcess
from tests.soak.tap import Reader, Tap
from tests.soak.wires import HOSTS, NETWORKS, Passed, Way, Wires, open_wires

KEY_SIZE: Final = 256
# Within that all have to be connected at first, and what is on its way at the end arrives.
_START: Final = 60.0
_END: Final = 2.0


@attrs.frozen(kw_only=True)
class Plan:
    """How long a run is, in seconds, and what happens in it how often.

    A new key every ``rekey`` seconds. Every ``cut`` seconds a link or an interface is cut, for
    ``mend`` seconds. ``loss`` is the share of packets lost by chance, ``rate`` the messages that
    each host sends in a second. Memory is looked at, and progress told, every ``sample`` seconds.
    """

    seconds: float
    seed: int
    rekey: float = 60.0
    cut: float = 10.0
    mend: float = 4.0
    loss: float = 0.02
    rate: float = 40.0
    sample: float = 60.0
    ping_interval: float = 0.25


@attrs.frozen
class Sample:
    """The memory of a host's process, in bytes: all it has, and what Python made."""

    resident: int
    traced: int


@attrs.define
class Outcome:
    """All that a run has shown."""

    plan: Plan
    ledger: Ledger
    taps: dict[int, Tap]
    samples: dict[int, list[Sample]]
    rekeyed: int = 0
    cuts: int = 0
    missed: dict[int, int] = attrs.field(factory=dict[int, int])
    reports: dict[int, dict[str, Any]] = attrs.field(factory=dict[int, dict[str, Any]])
    passed: dict[Way, Passed] = attrs.field(factory=dict[Way, Passed])


class Driver:
    """A run on ``wires``. ``say`` is told of its progress."""

    def __init__(self, plan: Plan, wires: Wires, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._wires = wires
        self._say = say
        self._rng = random.Random(plan.seed)
        self._reader = Reader()
        self._key = self._make_key()
        ledger = Ledger()

        def whole(host: int, name: Name) -> None:
            ledger.note_whole(host, name, trio.current_time())

        def got(host: int, name: Name) -> None:
            ledger.note_delivered(host, name, trio.current_time())

        self._nodes = {
            host: NodeProcess(
                Settings(
                    host=host,
                    rate=plan.rate,
                    ping_interval=plan.ping_interval,
                    key=self._key,
                    seed=plan.seed,
                ),
                wires.name(host),
                got,
            )
            for host in HOSTS
        }
        taps = {host: Tap(host, wires.name(host), self._reader, whole) for host in HOSTS}
        self._outcome = Outcome(plan, ledger, taps, {host: [] for host in HOSTS})

    async def run(self) -> Outcome:
        """Do all that is planned; what it has shown."""
        outcome = self._outcome
        async with trio.open_nursery() as nursery:
            for tap in outcome.taps.values():
                nursery.start_soon(tap.run)
            async with self._open_nodes():
                with trio.fail_after(_START):
                    # Who answers has its sockets: what reaches a host before, nobody counts.
                    await self._all("report")
                    await self._all("connect")
                await self._live()
                outcome.missed = {host: tap.missed() for host, tap in outcome.taps.items()}
            nursery.cancel_scope.cancel()
        outcome.ledger.settle(math.inf)
        return outcome

    @asynccontextmanager
    async def _open_nodes(self) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            for node in self._nodes.values():
                await nursery.start(node.run)
            yield
            for node in self._nodes.values():
                await node.end()

    async def _live(self) -> None:
        """Send while this and that happens, then let all come to its end and count."""
        outcome = self._outcome
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._all, "send")
            async with trio.open_nursery() as trouble:
                for every, happen in (
                    (self._plan.rekey, self._rekey),
                    (self._plan.cut, self._cut()),
                    (self._plan.sample, self._look),
                ):
                    trouble.start_soon(_repeat, every, happen)
                await trio.sleep(self._plan.seconds)
                trouble.cancel_scope.cancel()
            await self._all("stop")
        self._wires.mend()
        await trio.sleep(_END)
        await self._all("be_silent")
        await trio.sleep(_END)
        outcome.reports = await self._all("report")
        outcome.passed = self._wires.passed()

    async def _all(self, do: str, **arguments: Any) -> dict[int, Any]:
        """Have all hosts do something; what came of it at each."""
        answers: dict[int, Any] = {}

        async def ask(node: NodeProcess) -> None:
            answers[node.host] = await node.ask(do, **arguments)

        async with trio.open_nursery() as nursery:
            for node in self._nodes.values():
                nursery.start_soon(ask, node)
        return answers

    # What happens.

    async def _rekey(self) -> None:
        """All have the new key before one uses it, and none uses the old one when it goes."""
        key = self._make_key()
        old = self._outcome.rekeyed % 2 + 1
        new = 3 - old
        # To its end, or some would have the key and some not.
        with trio.CancelScope(shield=True):
            await self._all("set_key", key=key, slot=new)
            await self._all("use_key", slot=new)
            # What was sealed with the old one arrives.
            await trio.sleep(0.5)
            await self._all("set_key", key=None, slot=old)
        self._outcome.rekeyed += 1

    def _cut(self) -> Callable[[], Awaitable[None]]:
        """One link after the other, and each time in another way."""
        pairs = itertools.cycle(itertools.combinations(HOSTS, 2))
        networks = itertools.cycle(NETWORKS)

        async def cut() -> None:
            a, b = next(pairs)
            network = next(networks)
            # Of the pairs and the networks there is an odd and an even number, so all meet.
            if self._outcome.cuts % 4 < 2:
                self._wires.cut(a, b, network)
            else:
                self._wires.take_down(a, network)
            self._outcome.cuts += 1
            await trio.sleep(self._plan.mend)
            self._wires.mend()

        return cut

    async def _look(self) -> None:
        """Look at the memory, and say how it goes."""
        outcome = self._outcome
        for host, report in (await self._all("report")).items():
            sample = Sample(report["resident"], report["traced"])
            outcome.samples[host].append(sample)
        ledger = outcome.ledger
        ledger.settle(trio.current_time())
        memory = " ".join(
            f"{samples[-1].resident >> 10} ({samples[-1].traced >> 10})"
            for samples in outcome.samples.values()
        )
        self._say(
            f"{outcome.cuts} cuts, {outcome.rekeyed} new keys;"
            f" {ledger.whole.total()} messages arrived whole,"
            f" {ledger.delivered.total()} were delivered, {ledger.missing.total()} are missing;"
            f" memory {memory} KiB"
        )

    def _make_key(self) -> str:
        key = self._rng.randbytes(KEY_SIZE)
        self._reader.add(CryptoConfig(key=key))
        return key.hex()


async def _repeat(every: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do something every so many seconds, until cancelled."""
    started = trio.current_time()
    for turn in itertools.count(1):
        await trio.sleep_until(started + turn * every)
        await action()


async def soak(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """A whole run."""
    with open_wires(plan.loss) as wires:
        return await Driver(plan, wires, say).run()
