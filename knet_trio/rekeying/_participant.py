"""The participant: the side of a host that answers requests of a coordinator."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from knet_trio import KnetError
from knet_trio.cluster import KeyChange, make_fingerprint
from knet_trio.cluster._key_change import MAX_CHANGE_ID, decode_key, encode_key
from knet_trio.control import KeyChangeReport
from knet_trio.rekeying._host_keys import HostKeys
from knet_trio.rekeying._messages import (
    RekeyAction,
    RekeyAnswer,
    RekeyQuestion,
    encode_hosts,
    find_missing,
    find_present,
)
from knet_trio.rekeying._phases import find_level, last_phase
from knet_trio.rekeying._wanted import find_names


@attrs.frozen
class Claim:
    """The claim of a coordinator.

    Attributes:
        host_id: The id of the host that changes the key.
        run: The call of ``rekey`` at that host.
    """

    host_id: int
    run: str


class Participant:
    """The participant of a host in changes of the key.

    Args:
        keys: The keys of this host.

    Attributes:
        keys: The keys of this host.
        coordinates: The call of ``rekey`` that is running at this host, None for none.
    """

    def __init__(self, keys: HostKeys) -> None:
        self.keys: Final = keys
        self.coordinates: str | None = None
        self._claim: Claim | None = None

    def report_change(self) -> KeyChangeReport | None:
        """Return the change in progress at this host for its status, None for none."""
        keys, change = self.keys, self.keys.change
        if change is None:
            return None
        phase = last_phase(find_level(in_change=True, has_new=keys.key == change.new))
        names = find_names(keys, change)[1]
        assert phase is not None
        return KeyChangeReport(
            change_id=change.change_id,
            began_by=change.began_by,
            phase=phase.value,
            cipher=names.cipher,
            hash=names.hash,
            model=names.model,
        )

    async def answer(self, source: int, question: RekeyQuestion) -> RekeyAnswer:
        """Carry out a request of host ``source``, and return the answer."""
        async with self.keys.lock:
            # Shielded, since the files and the handle must not differ.
            answer = self._describe(question)
            with trio.CancelScope(shield=True):
                answer = await self._answer(source, question)
        return answer

    async def _answer(self, source: int, question: RekeyQuestion) -> RekeyAnswer:
        action = RekeyAction(question.action)
        if action is RekeyAction.STATUS:
            return self._describe(question)
        if action is RekeyAction.RELEASE:
            if self._claim is not None and self._claim.run == question.run:
                self._claim = None
            return self._describe(question)
        if action is RekeyAction.TELL:
            obstacle = self.keys.find_obstacle()
            if obstacle is not None:
                return self._refuse(question, obstacle)
            return self._give_keys(question)
        held = self._claim
        if held is not None and held.run not in (question.run, question.instead_of):
            return self._refuse(question, f"host {held.host_id} is changing the key", held)
        # A host that has restarted has lost the claim.
        self._claim = Claim(source, question.run)
        obstacle = self.keys.find_obstacle()
        if obstacle is not None:
            return self._refuse(question, obstacle)
        if action is RekeyAction.CLAIM:
            stranger = self._find_stranger(question)
            if stranger is not None:
                return self._refuse(question, stranger)
            return self._describe(question)
        try:
            return await self._act(action, question)
        except KnetError as error:
            return self._refuse(question, str(error.args[0]))

    def _find_stranger(self, question: RekeyQuestion) -> str | None:
        """Return why a claim is refused: the coordinator's file lacks a host of this file."""
        if question.hosts is None:
            return None
        named = {host.host_id: host.name for host in self.keys.cluster.hosts}
        missing = find_missing(question.hosts, sorted(named))
        if not missing:
            return None
        return (
            f"its cluster file has host {missing[0]} ({named[missing[0]]}), which is not in the"
            " file of the host that changes the key: give both the same file, and reload it"
        )

    async def _act(self, action: RekeyAction, question: RekeyQuestion) -> RekeyAnswer:
        change = self.keys.change
        known = change is not None and change.change_id == question.change
        if action in (RekeyAction.SET, RekeyAction.SET_CRYPTO):
            return await self._set(question)
        if change is not None and not known:
            return self._refuse(question, _another(change))
        if action is RekeyAction.CONFIRMED:
            return self._list_unconfirmed(question)
        if change is None:
            # This host has completed the change, or never begun it.
            done = action is RekeyAction.DROP or self._has(question)
            return (
                self._describe(question)
                if done
                else self._refuse(question, "the new key is not set here")
            )
        uses_new = self.keys.key == change.new
        if action is RekeyAction.CHECK_FILE:
            await self.keys.check_file(change.new)
        elif action is RekeyAction.USE and not uses_new:
            await self.keys.adopt()
        elif action is RekeyAction.CLEAR:
            if not uses_new:
                return self._refuse(question, "the new key is not used yet")
            await self.keys.finish()
        elif action is RekeyAction.DROP:
            if uses_new:
                return self._refuse(question, "the new key is used already")
            await self.keys.finish()
        return self._describe(question)

    async def _set(self, question: RekeyQuestion) -> RekeyAnswer:
        change, key = self.keys.change, self.keys.key
        if change is not None:
            if change.change_id == question.change:
                return self._describe(question)
            return self._refuse(question, _another(change))
        mark = self._mark(key, question)
        if mark == question.mark:
            # This host has completed the change.
            return self._describe(question)
        new = decode_key(question.key)
        if new is None or not question.change or question.began_by is None:
            return self._refuse(question, "the request has no new key")
        if len(question.change) > MAX_CHANGE_ID:
            return self._refuse(question, "the name of the change is too long")
        names = question.old_names, question.new_names
        if question.action == RekeyAction.SET:
            names = None, None
        elif None in names:
            return self._refuse(question, "the request has no cipher, hash and model")
        if mark != question.old_mark:
            return self._refuse(question, "this host has a key that is not part of the change")
        await self.keys.begin(
            KeyChange(
                change_id=question.change,
                began_by=question.began_by,
                old=key,
                new=new,
                old_names=names[0],
                new_names=names[1],
            )
        )
        return self._describe(question)

    def _has(self, question: RekeyQuestion) -> bool:
        """Return whether this host seals with the new key."""
        return self._mark(self.keys.key, question) == question.mark

    def _list_unconfirmed(self, question: RekeyQuestion) -> RekeyAnswer:
        change = self.keys.change
        new = self.keys.key if change is None or self._has(question) else change.new
        unconfirmed = self.keys.find_unconfirmed(new)
        if unconfirmed is None or self._mark(new, question) != question.mark:
            return self._refuse(question, "the new key is not set here")
        matter = find_present(question.hosts or "", unconfirmed)
        return attrs.evolve(self._describe(question), unconfirmed=encode_hosts(matter))

    def _give_keys(self, question: RekeyQuestion) -> RekeyAnswer:
        change = self.keys.change
        if change is None:
            return self._refuse(question, "no change of the key is in progress here")
        if change.change_id != question.change:
            return self._refuse(question, _another(change))
        return attrs.evolve(
            self._describe(question),
            old=encode_key(change.old),
            new=encode_key(change.new),
            old_names=change.old_names,
            new_names=change.new_names,
        )

    def _describe(self, question: RekeyQuestion) -> RekeyAnswer:
        change = self.keys.change
        return RekeyAnswer(
            mark=self._mark(self.keys.key, question),
            change=None if change is None else change.change_id,
            began_by=None if change is None else change.began_by,
            coordinates=self.coordinates,
        )

    def _refuse(
        self, question: RekeyQuestion, reason: str, held: Claim | None = None
    ) -> RekeyAnswer:
        return attrs.evolve(
            self._describe(question),
            refused=reason,
            holder=None if held is None else held.host_id,
            holder_run=None if held is None else held.run,
        )

    @staticmethod
    def _mark(key: bytes, question: RekeyQuestion) -> str:
        return make_fingerprint(key, question.run.encode())


def _another(change: KeyChange) -> str:
    return f"another change of the key is in progress, {change.change_id}"
