from __future__ import annotations

import hashlib
import importlib
import os
import random
import subprocess
import sys
import threading
from contextvars import Context
from typing import Any

import pytest
import trio

from knet_trio import CompressConfig, CryptoConfig, Handle, InvalidArgumentError, LinkPolicy
from knet_trio._state.workers import new_worker
from knet_trio.testing import (
    Conditions,
    Interface,
    PacketRecord,
    SimulatedNetwork,
    open_network,
    run,
)
from tests.testing.nodes import at, open_nodes

ROUGH = Conditions(
    latency=0.01,
    jitter=0.02,
    loss=0.05,
    burst=3,
    duplicate=0.05,
    reorder=0.05,
    corrupt=0.05,
    checksum=False,
)
Footprint = tuple[float, float, str, str, int, str]


async def busy(network: SimulatedNetwork) -> list[Footprint]:
    """Three encrypted hosts on a bad network, sending all the time: where all the packets went."""
    footprints: list[Footprint] = []

    def trace(passage: PacketRecord) -> None:
        sent, ended, source, destination, data, fate = passage[:6]
        footprints.append((sent, ended, str(source), str(destination), len(data), fate))

    network.trace = trace
    network.conditions = ROUGH
    crypto = CryptoConfig(key=bytes(128))
    async with (
        open_nodes(3, links=2, policy=LinkPolicy.ROUND_ROBIN, crypto=crypto) as handles,
        trio.open_nursery() as nursery,
    ):
        handles[0].set_compress(CompressConfig("bzip2"))
        for handle in handles:
            nursery.start_soon(chatter, handle)
        await trio.sleep(2)
        network.cut(at(1), at(2))
        network.pause(at(3, 0), at(3, 1))
        await trio.sleep(5)
        network.resume(at(3, 0), at(3, 1))
        network.heal()
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    return footprints


async def chatter(handle: Handle) -> None:
    channel = handle.open_channel(0)
    while True:
        await trio.sleep(random.expovariate(10))
        await channel.send(random.randbytes(random.randint(1, 5000)) + bytes(500))


def digest(footprints: list[Footprint]) -> str:
    return hashlib.sha256(repr(footprints).encode()).hexdigest()


class TestReplaying:
    def test_a_seed_makes_it_the_same_run(self) -> None:
        first = run(busy, seed=7)
        assert len(first) > 1000
        assert run(busy, seed=7) == first
        assert run(busy, seed=8) != first

    def test_in_another_process_too_whatever_its_hashes(self) -> None:
        program = (
            "from knet_trio.testing import run;"
            "from tests.testing.test_running import busy, digest;"
            "print(digest(run(busy, seed=7)))"
        )
        digests = {digest(run(busy, seed=7))}
        for hash_seed in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", program],
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            digests.add(done.stdout.strip())
        assert len(digests) == 1

    def test_the_random_module_and_trio_are_as_before_afterwards(self) -> None:
        scheduler: Any = importlib.import_module("trio._core._run")
        switch = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
        states = random.getstate(), scheduler._r.getstate()

        async def draw(_: SimulatedNetwork) -> float:
            assert scheduler._ALLOW_DETERMINISTIC_SCHEDULING
            return random.random()

        assert run(draw, seed=1) == run(draw, seed=1) != run(draw, seed=2)
        assert (random.getstate(), scheduler._r.getstate()) == states
        assert switch == scheduler._ALLOW_DETERMINISTIC_SCHEDULING

    def test_a_scheduler_that_cannot_be_seeded_is_told_of(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = importlib.import_module("trio._core._run")
        monkeypatch.delattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING")

        def run_nothing(*_: object, **__: object) -> None:
            """This Trio does not run without it."""

        monkeypatch.setattr(trio, "run", run_nothing)
        with pytest.warns(RuntimeWarning, match="will not repeat exactly") as warned:
            run(busy)
        assert warned[0].filename == __file__


class TestFailing:
    def test_the_error_tells_the_seed(self) -> None:
        async def fail(_: SimulatedNetwork) -> None:
            raise ValueError("what the test found")

        with pytest.raises(ExceptionGroup) as caught:
            run(fail, seed=99)
        assert caught.value.__notes__ == ["on a simulated network with seed=99"]

    def test_without_a_seed_it_is_another_run_each_time(self) -> None:
        async def seed(network: SimulatedNetwork) -> int:
            return network.seed

        assert len({run(seed) for _ in range(3)}) == 3


class TestTime:
    def test_it_jumps(self) -> None:
        async def sleep_a_year(network: SimulatedNetwork) -> float:
            await trio.sleep(365 * 86400)
            return trio.current_time()

        assert run(sleep_a_year) == 365 * 86400

    @pytest.mark.parametrize("whose", ["program", "handle"])
    def test_it_stands_still_while_a_thread_works(self, whose: str) -> None:
        finish = threading.Event()
        # Where nothing says that work takes simulated time.
        of_handle = Context().run(new_worker)

        def work() -> None:
            assert finish.wait(20)

        async def main(_: SimulatedNetwork) -> tuple[float, float]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)
                threading.Timer(0.05, finish.set).start()
                if whose == "handle":
                    await of_handle(work)
                else:
                    await trio.to_thread.run_sync(work)
                worked = trio.current_time()
            return worked, trio.current_time()

        assert run(main) == (0, 1)


def test_the_network_is_as_asked_for() -> None:
    async def ask(network: SimulatedNetwork) -> tuple[Conditions, int]:
        return network.get_wire("10.0.0.1", "10.0.0.2"), network.get_interface("10.0.0.1").mtu

    assert run(ask, conditions=ROUGH, interface=Interface(mtu=9000)) == (ROUGH, 9000)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"conditions": {"loss": 0.1}},
            r"conditions {'loss': 0\.1} is not of type knet_trio\.test",
        ),
        ({"interface": 1500}, "interface 1500 is not of type knet_trio.testing.Interface"),
        ({"seed": "x"}, "seed 'x' is not a whole number"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number"),
        ({"seed": True}, "seed True is not a whole number"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    async def main(network: SimulatedNetwork) -> None:
        raise AssertionError("it ran")

    async def by_hand() -> None:
        async with open_network(**options):
            raise AssertionError("it opened")

    with pytest.raises(InvalidArgumentError, match=words):
        run(main, **options)
    with pytest.raises(InvalidArgumentError, match=words):
        trio.run(by_hand)


def test_a_call_in_place_of_the_function() -> None:
    async def greet(*_: object) -> None:
        raise AssertionError("it ran")

    # Warnings are errors, so the coroutine must have been closed.
    with pytest.raises(InvalidArgumentError, match=r"not its call: run\(greet\)"):
        run(greet())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError, match="3 is not an async function"):
        run(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_hour_takes_seconds() -> None:
    async def hour(network: SimulatedNetwork) -> int:
        async with open_nodes(3, links=2):
            await trio.sleep(3600)
        return network.statistics().sent

    # Two hosts and two links each, a ping and a pong a second.
    assert run(hour) > 3600 * 3 * 2 * 2 * 2
