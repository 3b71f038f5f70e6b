"""Hosts that change their key without a network and a disk, and may be killed at any step.

What runs is the real coordinator and the real participants. A host understands another one if it
opens what that seals with; if it does not, they cannot ask each other either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from knet_trio import CryptoConfig
from knet_trio.cluster import Cluster, ClusterHost, CryptoNames, KeyChange, KeyFileError
from knet_trio.rekeying import HostOutcome, RekeyReport
from knet_trio.rekeying._coordinator import Coordinator
from knet_trio.rekeying._host_keys import CryptoHost, HostKeys
from knet_trio.rekeying._messages import (
    RekeyAnswer,
    RekeyQuestion,
    decode_answer,
    decode_question,
    encode,
)
from knet_trio.rekeying._participant import Participant
from knet_trio.rekeying._progress import NoAnswer

FIRST_KEY: Final = bytes(range(128))


class KilledError(Exception):
    """A host was killed in the middle of something."""


@attrs.define
class ModelFiles:
    """What is on the disk of a host; ``step`` is called around everything that is written."""

    step: Callable[[], None]
    key: bytes = FIRST_KEY
    change: KeyChange | None = None
    names: CryptoNames = attrs.field(factory=CryptoNames)
    # The numbers of the writes that fail, from 0 on.
    failing: set[int] = attrs.field(factory=set[int])
    writes: int = 0

    def read_key(self) -> bytes:
        return self.key

    def write_change(self, change: KeyChange) -> None:
        self._write("change", change)

    def write_key(self, key: bytes) -> None:
        self._write("key", key)

    def remove_change(self) -> None:
        # The cluster file says by then how the key is used.
        names = None if self.change is None else self.change.get_names(self.key)
        self.names = names or self.names
        self._write("change", None)

    def _write(self, name: str, value: Any) -> None:
        number, self.writes = self.writes, self.writes + 1
        if number in self.failing:
            raise KeyFileError("the disk is full")
        self.step()
        setattr(self, name, value)
        self.step()


@attrs.define
class ModelHandle:
    """The slots of a handle."""

    slots: dict[int, bytes]
    crypto_in_use: int = 1
    allow_clear_traffic: bool = False
    hosts: dict[int, CryptoHost] = attrs.field(factory=dict[int, CryptoHost])

    def set_crypto(self, config: CryptoConfig | None, slot: int = 1) -> None:
        assert slot != self.crypto_in_use
        self.slots.pop(slot, None)
        if config is not None:
            self.slots[slot] = config.key

    def use_crypto(self, slot: int) -> None:
        assert slot in self.slots
        self.crypto_in_use = slot


@attrs.define
class ModelOpened:
    cluster: Cluster
    lock: trio.Lock = attrs.field(factory=trio.Lock)


async def at_once(work: Callable[..., object], *args: object) -> object:
    await trio.lowlevel.checkpoint()
    return work(*args)


class ModelHost:
    """One host: its disk, and what it knows while it lives."""

    def __init__(self, mesh: Mesh, host_id: int) -> None:
        self.mesh = mesh
        self.host_id = host_id
        self.files = ModelFiles(self.step)
        # How many steps from now on it is killed, None for never.
        self.kill_in: int | None = None
        self.alive = False
        self.start()

    def step(self) -> None:
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill()
                raise KilledError
        self.mesh.check()

    def kill(self) -> None:
        self.alive, self.kill_in = False, None

    def start(self) -> None:
        """Start as a program does that opens the cluster file."""
        if self.alive:
            return
        change = self.files.change
        if change is not None and change.get_other(self.files.key) is None:
            change = None
        names = None if change is None else change.get_names(self.files.key)
        crypto = (names or self.files.names).make(self.files.key)
        accepted = None if change is None else change.make_accepted(crypto)
        slots = {1: crypto.key}
        if accepted is not None:
            slots[2] = accepted.key
        self.handle = ModelHandle(slots)
        cluster = Cluster(
            hosts=self.mesh.hosts,
            crypto=crypto,
            accept_crypto=accepted,
            key_change=change,
            key_file=Path("lab.key"),
        )
        self.opened = ModelOpened(cluster)
        keys = HostKeys(self.handle, self.opened, lambda _: self.files, at_once)
        self.participant = Participant(keys)
        self.alive = True

    @property
    def sealing(self) -> bytes:
        return self.handle.slots[self.handle.crypto_in_use]

    def understands(self, other: ModelHost) -> bool:
        return other.sealing in self.handle.slots.values()


class Mesh:
    """Some hosts, and what is lost between them."""

    def __init__(self, count: int, *, exclude: Iterable[int] = ()) -> None:
        self.exclude = sorted(exclude)
        # Cipher, hash and model after the change, as far as they change.
        self.wanted: dict[str, str] = {}
        self.hosts = tuple(ClusterHost(number, f"host{number}") for number in range(1, count + 1))
        self.members: dict[int, ModelHost] = {}
        for host in self.hosts:
            self.members[host.host_id] = ModelHost(self, host.host_id)
        # Numbers of questions, from now on, that are lost, or their answers.
        self.lost_questions: set[int] = set()
        self.lost_answers: set[int] = set()
        self.asked = 0
        # How long a question takes, by its number.
        self.delays: list[float] = []

    def included(self) -> list[ModelHost]:
        return [one for one in self.members.values() if one.host_id not in self.exclude]

    def check(self) -> None:
        """All that live understand each other, at every step."""
        living = [one for one in self.included() if one.alive]
        for one in living:
            for other in living:
                assert one.understands(other), (one.host_id, other.host_id)

    async def ask(
        self, asker: ModelHost, host_id: int, question: RekeyQuestion
    ) -> RekeyAnswer | NoAnswer:
        self.check()
        asker.step()
        number, self.asked = self.asked, self.asked + 1
        if self.delays:
            await trio.sleep(self.delays[number % len(self.delays)])
        host = self.members[host_id]
        if host is asker:
            return await host.participant.answer(host_id, question)
        gone = NoAnswer(HostOutcome.AWAY, "it cannot be reached")
        if not host.alive or number in self.lost_questions:
            return gone
        if not (host.understands(asker) and asker.understands(host)):
            return gone
        try:
            asked = decode_question(encode(question))
            assert asked == question
            answer = await host.participant.answer(asker.host_id, asked)
        except KilledError:
            return gone
        if number in self.lost_answers:
            return gone
        assert decode_answer(encode(answer)) == answer
        return answer

    async def rekey(self, at: int, exclude: Iterable[int] | None = None) -> RekeyReport | None:
        """Change the key from host ``at``; None if that was killed meanwhile."""
        try:
            return await self.coordinator(at, exclude).rekey()
        except* KilledError:
            pass
        finally:
            # Where it was killed while others were asked, it does nothing more.
            if not self.members[at].alive:
                self.members[at].participant.coordinates = None
        return None

    def coordinator(self, at: int, exclude: Iterable[int] | None = None) -> Coordinator:
        host = self.members[at]

        async def ask(host_id: int, question: RekeyQuestion) -> RekeyAnswer | NoAnswer:
            return await self.ask(host, host_id, question)

        left_out = self.exclude if exclude is None else exclude
        hosts = host.opened.cluster.hosts
        return Coordinator(at, host.participant, ask, hosts, left_out, self.wanted)

    def start_all(self) -> None:
        for host in self.included():
            host.kill_in = None
            host.start()
        self.check()

    def keys(self) -> set[bytes]:
        """The keys in the files of all hosts that are not excluded."""
        return {host.files.key for host in self.included()}

    def assert_over_for_the_living(self) -> None:
        """The same of those that live: one may have been killed after its last step."""
        living = [host for host in self.included() if host.alive]
        assert {host.files.change for host in living} == {None}
        assert len({host.files.key for host in living}) == 1

    def assert_over(self) -> None:
        """All hosts have one key that is new, and no change is under way."""
        (key,) = self.keys()
        assert key != FIRST_KEY
        for host in self.included():
            assert host.files.change is None
            assert list(host.handle.slots.values()) == [key]
