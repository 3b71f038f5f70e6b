"""The key-value store keeps its promise on networks that are partitioned, and over crashes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from examples.key_value import (
    AT_ONCE,
    Client,
    Disk,
    Entry,
    NoMajorityError,
    Replica,
    UnknownOutcomeError,
)
from knet_trio.testing import SimulatedNetwork
from tests.examples.histories import is_linearizable
from tests.examples.stores import StoreCluster, directory, open_cluster, simulate, slow_disk
from tests.examples.trial import play


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", slow_disk)


@pytest.fixture
def path() -> Iterator[Path]:
    with directory() as path:
        yield path


def test_every_host_gets_what_one_has_set(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path, clients=[4]) as cluster:
            assert await cluster[4].store.get("colour") is None
            for setter in cluster.members:
                await cluster[setter].store.set("colour", f"the one of {setter}")
                for getter in cluster.members:
                    assert await cluster[getter].store.get("colour") == f"the one of {setter}"
            await cluster[2].store.set("colour", None)
            assert await cluster[4].store.get("colour") is None

    simulate(main)


def test_a_minority_refuses_and_says_why_and_a_majority_goes_on(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path) as cluster:
            await cluster[1].store.set("colour", "red")
            cluster.partition([1], [2, 3])
            # It does not know yet, so it takes the time to find out, and then it is at once.
            with pytest.raises(NoMajorityError, match="1 of 3 copies answer, and 2 have to: host"):
                await cluster[1].store.set("colour", "black")
            await cluster[1].wait_unreachable(2, 3)
            began = trio.current_time()
            for call in (cluster[1].store.set("colour", "black"), cluster[1].store.get("colour")):
                with pytest.raises(NoMajorityError, match="host 2 cannot be reached; host 3"):
                    await call
            assert trio.current_time() - began < 0.1
            await cluster[2].store.set("colour", "blue")
            assert await cluster[3].store.get("colour") == "blue"
            network.heal()
            await cluster[1].wait_reachable(2)
            assert await cluster[1].store.get("colour") == "blue"
            assert (await cluster.agreed())["colour"][3] == "blue"

    simulate(main)


def test_a_host_that_comes_back_catches_up(path: Path) -> None:
    number_of_keys = 2 * AT_ONCE + 10

    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path) as cluster:
            await cluster[3].store.set("before", "kept")
            await cluster[3].crash()
            await cluster[1].wait_unreachable(3)
            for number in range(number_of_keys):
                await cluster[1 + number % 2].store.set(f"key {number}", f"value {number}")
            assert f"key {number_of_keys - 1}" not in await cluster[3].entries()
            await cluster[3].start()
            entries = await cluster.agreed()
            assert len(entries) == number_of_keys + 1
            # What it has is enough for a majority with either of the others.
            await cluster[1].crash()
            await cluster[3].wait_reachable(2)
            assert await cluster[3].store.get("key 0") == "value 0"
            assert await cluster[3].store.get("before") == "kept"

    simulate(main)


def test_what_was_set_outlives_a_crash_of_all_hosts(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path) as cluster:
            await cluster[1].store.set("colour", "red")
            for host_id in cluster.copies:
                await cluster[host_id].crash()
            for host_id in cluster.copies:
                await cluster[host_id].start()
            await cluster[3].wait_reachable(1, 2)
            assert await cluster[3].store.get("colour") == "red"

    simulate(main)


def test_of_two_that_write_at_once_one_wins_everywhere(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path) as cluster:
            for number in range(10):
                values = [f"{number} of {host_id}" for host_id in (1, 2)]
                async with trio.open_nursery() as nursery:
                    for host_id, value in zip((1, 2), values, strict=True):
                        nursery.start_soon(cluster[host_id].store.set, "colour", value)
                got = {await cluster[host_id].store.get("colour") for host_id in cluster.copies}
                assert len(got) == 1
                assert got <= set(values)

    simulate(main)


def cut_off_at_the_first_write(monkeypatch: pytest.MonkeyPatch, cluster: StoreCluster) -> None:
    """Cut host 1 off when it has asked for versions, and begins to give the others the value."""
    ask_majority = Replica._ask_majority  # pyright: ignore[reportPrivateUsage]

    async def cut(self: Replica, *question: object) -> list[object]:
        if question[0] == "keep":
            cluster.partition([1], [2, 3])
        return await ask_majority(self, *question)

    monkeypatch.setattr(Replica, "_ask_majority", cut)


@pytest.mark.parametrize("asker", [1, 4])
def test_a_write_that_is_cut_off_in_the_middle_may_have_been_done(
    asker: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path, clients=[4]) as cluster:
            with monkeypatch.context() as patch:
                cut_off_at_the_first_write(patch, cluster)
                with pytest.raises(UnknownOutcomeError, match="1 of 3 copies answer"):
                    await cluster[asker].store.set("colour", "red")
            network.heal()
            await cluster[2].wait_reachable(1)
            # It was set at host 1, which gives it to the others: it is set after all.
            assert (await cluster.agreed())["colour"][3] == "red"
            assert await cluster[asker].store.get("colour") == "red"

    simulate(main)


def test_what_was_read_is_not_lost_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def follow(self: Replica, host_id: int) -> None:
        """Do nothing: the others learn of it by what is read, or not at all."""

    monkeypatch.setattr(Replica, "follow", follow)

    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path) as cluster:
            with monkeypatch.context() as patch:
                cut_off_at_the_first_write(patch, cluster)
                with pytest.raises(UnknownOutcomeError):
                    await cluster[1].store.set("colour", "red")
            for reader in (2, 3):
                assert "colour" not in await cluster[reader].entries()
            network.heal()
            await cluster[1].wait_reachable(2, 3)
            assert await cluster[1].store.get("colour") == "red"
            await cluster[1].crash()
            await cluster[2].wait_unreachable(1)
            assert await cluster[2].store.get("colour") == "red"

    simulate(main)


def test_a_client_goes_to_another_copy_only_if_the_first_has_done_nothing(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path, clients=[4]) as cluster:
            client = cluster[4]
            assert isinstance(client.store, Client)
            # Host 1 reaches none of the others, and refuses; the client reaches all.
            cluster.partition([1], [2, 3])
            await cluster[1].wait_unreachable(2, 3)
            await client.store.set("colour", "blue")
            assert await client.store.get("colour") == "blue"
            network.heal()
            await cluster[1].wait_reachable(2, 3)
            # Host 1 does not answer: it may have done it, or not. In fact it never heard of it.
            network.hold("10.0.0.1", "10.0.0.4")
            with pytest.raises(
                UnknownOutcomeError, match="host 1 has not answered within patience"
            ):
                await client.store.set("colour", "red")
            assert await client.store.get("colour") == "blue"
            cluster.partition([4], [1, 2, 3])
            await client.wait_unreachable(1, 2, 3)
            with pytest.raises(NoMajorityError, match="host 1 cannot be reached; host 2"):
                await client.store.set("colour", "red")

    simulate(main)


def test_what_is_no_question_is_refused(path: Path) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_cluster(network, path, clients=[4]) as cluster:
            client = cluster[4].store
            assert isinstance(client, Client)
            ask = client._cluster.ask  # pyright: ignore[reportPrivateUsage]
            questions: list[list[object]] = [["get"], ["keep", ["k", "1", 2, None]], [], [[]]]
            for question in questions:
                with pytest.raises(trio.BrokenResourceError, match="no such question"):
                    await ask(1, *question)
            with pytest.raises(ValueError, match="more than"):
                await cluster[1].store.set("k", "v" * 200_000)
            with pytest.raises(NoMajorityError, match="more than"):
                await client.set("k", "v" * 200_000)
            assert await cluster[1].store.get("k") is None

    simulate(main)


# The promise: reads and writes are linearizable, whatever happens.


# `python -m tests.examples` tries many more.
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_reads_and_writes_are_linearizable(seed: int) -> None:
    trial = play(seed)
    trial.check()
    # Something has happened.
    assert sum(one.kind == "get" for one in trial.history) > 50


class Loose(Replica):
    """What looks right at first: it reads its own copy."""

    async def get(self, key: str) -> str | None:
        return (await self._disk.newest(key)).value


def test_a_store_that_reads_its_own_copy_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replica, "get", Loose.get)
    assert not is_linearizable(play(1).history)


def test_a_copy_keeps_the_newest_entry_in_whatever_order_they_come(path: Path) -> None:
    entries = [
        Entry("k", version, draw, f"{version}.{draw}") for version in (1, 2) for draw in (1, 2)
    ]

    async def main(network: SimulatedNetwork) -> None:
        for number in range(10):
            disk = Disk(path / f"{number}.db")
            for entry in random.choices(entries, k=10) + random.sample(entries, 4):
                await disk.keep(entry)
            assert await disk.newest("k") == entries[-1]
            ((_, *left),) = await disk.since(0)
            assert left == list(entries[-1])
            disk.close()

    simulate(main)
