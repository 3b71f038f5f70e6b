"""The coordinator: the host that changes the key of all hosts.

::

    status        find the hosts that answer
    claim         in the order of the ids, so that only one of two coordinators gets all hosts
    (tell)        fetch the keys of a change that has begun, if this host does not have them
    set           on every host that answers; the next phases only if all hosts have answered
    (confirmed)   with model aead: wait until all have answered each other under the new key
    use
    (check_file)  if more than the key changes: check that all cluster files have the new names
    (a pause)     packets sealed with the old key arrive
    clear
    release

Whatever fails or is killed meanwhile, each host has both keys, or a key that all others accept. So
another call, at any host, goes on where this one stopped.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

import attrs
import trio

from knet_trio.cluster import ClusterHost, KeyChange, make_fingerprint
from knet_trio.cluster._key_change import decode_key, encode_key
from knet_trio.config import is_aead
from knet_trio.rekeying._messages import (
    RekeyAction,
    RekeyAnswer,
    RekeyQuestion,
    encode_hosts,
    find_present,
)
from knet_trio.rekeying._participant import Participant
from knet_trio.rekeying._phases import LEVEL_AFTER, Level, Phase, find_level, may_begin
from knet_trio.rekeying._progress import (
    Ask,
    HostProgress,
    NoAnswer,
    check_all_well,
    check_unused,
    make_report,
    name_host,
)
from knet_trio.rekeying._wanted import check_known, check_wanted, find_names, make_change
from knet_trio.rekeying.errors import RekeyBusyError, RekeyError
from knet_trio.rekeying.records import HostOutcome, RekeyReport

PAUSE: Final = 1.0
"""Seconds between the phases use and clear, in which packets sealed with the old key that are still
in flight arrive."""
_LOOK: Final = 0.1
"""Seconds between two checks of which hosts have answered."""
_TAKE_OVERS: Final = 3
# Seconds to release the other hosts at the end.
_FAREWELL: Final = 1.0


class Coordinator:
    """A call of ``rekey``, ``drop`` or ``status``.

    Args:
        host_id: The id of this host.
        participant: The participant of this host.
        ask: Sends a request to a host.
        hosts: All hosts of the cluster file.
        exclude: The ids of excluded hosts.
        wanted: The new cipher, hash and model, as far as they are to change.
        patience: Seconds in which hosts have to answer each other under the new key.
    """

    def __init__(
        self,
        host_id: int,
        participant: Participant,
        ask: Ask,
        hosts: Sequence[ClusterHost],
        exclude: Iterable[int],
        wanted: Mapping[str, str] = MappingProxyType({}),
        patience: float = 10.0,
    ) -> None:
        self._host_id = host_id
        self._participant = participant
        self._ask = ask
        self._hosts = hosts
        self._wanted = dict(wanted)
        self._patience = patience
        self._run = secrets.token_hex(16)
        # Calls of other hosts that have ended, or whose hosts are gone.
        self._ended: set[str] = set()
        excluded = set(exclude)
        self._excluded = [host for host in hosts if host.host_id in excluded]
        self._all = {
            host.host_id: HostProgress(host)
            for host in sorted(hosts, key=lambda host: host.host_id)
            if host.host_id not in excluded
        }

    async def rekey(self) -> RekeyReport:
        """Change the key, or go on with a change that has begun.

        Raises:
            RekeyBusyError: Another host is changing the key.
            RekeyError: The key cannot be changed.
            InvalidArgumentError: The cipher, hash or model does not exist.
        """
        async with self._claiming() as answers:
            change = await self._find_change(answers)
            resumed = change is not None
            if change is None:
                change = make_change(self._participant.keys, self._host_id, self._wanted)
            else:
                check_wanted(self._participant.keys, change, self._wanted)
            self._note_levels(answers, change)
            for phase in Phase:
                if phase is Phase.USE and not await self._wait_confirmed(change):
                    break
                if phase is Phase.CLEAR and not await self._check_files(change):
                    break
                if not await self._do_phase(phase, change):
                    break
            return self._report(change, resumed=resumed)

    async def drop(self) -> None:
        """Make all hosts drop a new key that none uses yet.

        Raises:
            RekeyBusyError: Another host is changing the key.
            RekeyError: No change has begun, or a host uses the new key already, does not answer or
                refuses.
        """
        async with self._claiming() as answers:
            change = await self._find_change(answers)
            if change is None:
                raise RekeyError("no change of the key is in progress")
            self._note_levels(answers, change)
            check_unused(self._all, self._host_id)
            await self._ask_all(RekeyAction.DROP, change, list(self._all.values()))
            check_all_well(self._all, "not all hosts have dropped the new key: do it again")

    async def status(self) -> RekeyReport | None:
        """Return the progress of the change that has begun, None if there is none.

        The hosts are asked at the same time, none is claimed, and nothing changes.

        Raises:
            RekeyError: The key cannot be changed, or the change ends meanwhile.
        """
        self._check_able()
        answers = await self._look()
        begun = Counter(one.change for one in answers.values() if one.change is not None)
        own = self._participant.keys.change
        if own is None and not begun:
            return None
        # Of several changes, the one that this host has, else the one that most hosts have.
        chosen = begun.most_common(1)[0][0] if own is None else own.change_id
        holders = [host_id for host_id, one in answers.items() if one.change == chosen]
        if own is not None:
            change = own
        else:
            try:
                change = await self._fetch_change(holders[0], chosen)
            finally:
                # A host of version 0.1.0 took that for a claim.
                with trio.CancelScope(shield=True), trio.move_on_after(_FAREWELL):
                    await self._ask(holders[0], self._question(RekeyAction.RELEASE))
        self._note_levels(answers, change)
        return self._report(change, resumed=True)

    # Claiming of the hosts.

    @asynccontextmanager
    async def _claiming(self) -> AsyncGenerator[dict[int, RekeyAnswer]]:
        """Claim all hosts, so that no other one changes the key; yield their answers."""
        self._check()
        self._participant.coordinates = self._run
        try:
            await self._look()
            yield {
                one.host.host_id: answer
                for one in self._all.values()
                if one.trouble is None and (answer := await self._claim(one)) is not None
            }
        finally:
            try:
                with trio.CancelScope(shield=True), trio.move_on_after(_FAREWELL):
                    await self._release()
            finally:
                self._participant.coordinates = None

    def _check(self) -> None:
        self._check_able()
        check_known(self._participant.keys, self._wanted)
        if self._participant.coordinates is not None:
            raise RekeyBusyError("this host is changing the key already: wait until it has ended")

    def _check_able(self) -> None:
        if self._host_id not in self._all:
            raise RekeyError("this host cannot exclude itself: do it at another host")
        obstacle = self._participant.keys.find_obstacle()
        if obstacle is not None:
            raise RekeyError(obstacle)

    async def _look(self) -> dict[int, RekeyAnswer]:
        """Ask all hosts at the same time, note those that do not answer, return the answers."""
        answers: dict[int, RekeyAnswer] = {}

        async def look(one: HostProgress) -> None:
            answer = await self._ask(one.host.host_id, self._question(RekeyAction.STATUS))
            if isinstance(answer, NoAnswer):
                one.trouble = answer
            else:
                answers[one.host.host_id] = answer

        await self._for_each(look, self._all.values())
        return answers

    async def _claim(self, one: HostProgress) -> RekeyAnswer | None:
        """Claim a host and return its answer, None if it refuses or does not answer."""
        instead_of: str | None = None
        holder: int | None = None
        hosts = encode_hosts(host.host_id for host in self._hosts)
        for _ in range(_TAKE_OVERS):
            question = self._question(RekeyAction.CLAIM, instead_of=instead_of, hosts=hosts)
            answer = self._judge(one, await self._ask(one.host.host_id, question))
            if answer is None or answer.holder is None or answer.holder_run is None:
                return answer
            one.trouble, holder = None, answer.holder
            if await self._is_at_it(answer.holder, answer.holder_run):
                break
            instead_of = answer.holder_run
        named = {host.host_id: name_host(host) for host in self._hosts}
        raise RekeyBusyError(
            f"{named.get(holder or 0, f'host {holder}')} is changing the key at this moment: wait"
            " until it has ended, and try again if the change is not finished"
        )

    async def _is_at_it(self, host_id: int, run: str) -> bool:
        """Return whether a call of ``rekey`` at another host is still running."""
        if run in self._ended or host_id == self._host_id:
            return False
        answer = await self._ask(host_id, self._question(RekeyAction.STATUS))
        if isinstance(answer, RekeyAnswer) and answer.coordinates == run:
            return True
        self._ended.add(run)
        return False

    async def _release(self) -> None:
        async def release(one: HostProgress) -> None:
            await self._ask(one.host.host_id, self._question(RekeyAction.RELEASE))

        # A host that has refused a request may still be claimed.
        await self._for_each(release, [one for one in self._all.values() if one.answers])

    # Choice of the change.

    async def _find_change(self, answers: dict[int, RekeyAnswer]) -> KeyChange | None:
        """Return the change that has begun, None if there is none."""
        found: dict[str, list[int]] = {}
        for host_id, answer in answers.items():
            if answer.change is not None:
                found.setdefault(answer.change, []).append(host_id)
        changes = {
            change_id: await self._fetch_change(host_ids[0], change_id)
            for change_id, host_ids in found.items()
        }
        if not changes:
            return None
        chosen = next(iter(changes)) if len(changes) == 1 else self._choose(found, changes, answers)
        for change_id, host_ids in found.items():
            if change_id != chosen:
                await self._drop_other(changes[change_id], host_ids, answers)
        return changes[chosen]

    def _choose(
        self,
        found: dict[str, list[int]],
        changes: dict[str, KeyChange],
        answers: dict[int, RekeyAnswer],
    ) -> str:
        """Return which of several changes goes on: one in use, else the one that most hosts have.

        There are several if one began while the hosts that had another one were away.
        """
        names = ", ".join(
            f"{change_id} at {name_host(self._all[host_ids[0]].host)}"
            for change_id, host_ids in found.items()
        )
        # A host that is away may use the key of any change.
        check_all_well(
            self._all, f"several changes of the key have begun ({names}), so this host is needed"
        )
        marks = {answer.mark for answer in answers.values()}
        used = [one for one, change in changes.items() if self._mark(change.new) in marks]
        if len(used) > 1:
            raise RekeyError(
                f"several changes of the key have begun and are in use ({names}): exclude the hosts"
                " of all but one, and copy the key file to them at the end"
            )
        return used[0] if used else max(found, key=lambda one: (len(found[one]), one))

    async def _drop_other(
        self, change: KeyChange, host_ids: list[int], answers: dict[int, RekeyAnswer]
    ) -> None:
        """Make hosts drop a change that does not go on and that none of them uses."""
        question = self._question(RekeyAction.DROP, change=change.change_id)
        for host_id in host_ids:
            answer = self._judge(self._all[host_id], await self._ask(host_id, question))
            check_all_well(
                self._all, "another change of the key has begun there, so this host is needed"
            )
            if answer is not None:
                answers[host_id] = answer

    async def _fetch_change(self, host_id: int, change_id: str) -> KeyChange:
        """Return a change that a host has, fetching its keys if this host does not have it."""
        own = self._participant.keys.change
        if own is not None and own.change_id == change_id:
            return own
        answer = await self._ask(host_id, self._question(RekeyAction.TELL, change=change_id))
        if isinstance(answer, RekeyAnswer) and answer.refused is None:
            old, new = decode_key(answer.old), decode_key(answer.new)
            if old and new and answer.began_by is not None:
                return KeyChange(
                    change_id=change_id,
                    began_by=answer.began_by,
                    old=old,
                    new=new,
                    old_names=answer.old_names,
                    new_names=answer.new_names,
                )
        raise RekeyError(
            f"{name_host(self._all[host_id].host)} does not send the keys of the change that has"
            " begun there: try again"
        )

    # The phases.

    async def _do_phase(self, phase: Phase, change: KeyChange) -> bool:
        """Make all hosts do a phase; return whether all have done it."""
        hosts = list(self._all.values())
        if phase is not Phase.SET and not self._may_begin(phase):
            return False
        todo = [
            one
            for one in hosts
            if one.trouble is None and one.level is not None and one.level < LEVEL_AFTER[phase]
        ]
        if phase is Phase.CLEAR:
            if todo:
                await trio.sleep(PAUSE)
            # This host is the last: the change file is needed to go on after a failure.
            own = [one for one in todo if one.host.host_id == self._host_id]
            await self._ask_all(RekeyAction.CLEAR, change, [one for one in todo if one not in own])
            if any(one.trouble for one in hosts):
                return False
            todo = own
        await self._ask_all(RekeyAction(phase.value), change, todo)
        return not any(one.trouble for one in hosts)

    async def _wait_confirmed(self, change: KeyChange) -> bool:
        """Wait until all hosts have answered each other under a new key of model ``aead``.

        Before that, they drop packets under it. Return whether they have answered in time.
        """
        then = find_names(self._participant.keys, change)[1]
        levels = [one.level for one in self._all.values()]
        if not is_aead(then.model) or all(
            level is not None and level > Level.SET for level in levels
        ):
            return True
        deadline = trio.current_time() + self._patience
        while True:
            missing = await self._find_unconfirmed(change)
            if not missing or trio.current_time() >= deadline:
                break
            await trio.sleep(_LOOK)
        names = {host.host_id: name_host(host) for host in self._hosts}
        for host_id, others in missing.items():
            named = ", ".join(names[other] for other in others)
            reason = (
                f"it has no answer from {named} under the new key yet: check that links between"
                " them are up, and that both run knet_trio"
            )
            trouble = NoAnswer(HostOutcome.WAITING, reason, tuple(others))
            self._all[host_id].trouble = self._all[host_id].trouble or trouble
        return not any(one.trouble for one in self._all.values())

    async def _find_unconfirmed(self, change: KeyChange) -> dict[int, list[int]]:
        """Return the hosts that have no answer from others under the new key, and these."""
        missing: dict[int, list[int]] = {}
        question = self._question(
            RekeyAction.CONFIRMED,
            change=change.change_id,
            mark=self._mark(change.new),
            hosts=encode_hosts(self._all),
        )

        async def ask(one: HostProgress) -> None:
            answer = self._judge(one, await self._ask(one.host.host_id, question))
            if answer is not None:
                others = find_present(answer.unconfirmed or "", self._all)
                if others:
                    missing[one.host.host_id] = others

        await self._for_each(ask, [one for one in self._all.values() if one.trouble is None])
        return missing

    async def _check_files(self, change: KeyChange) -> bool:
        """Return whether all cluster files have the names that are valid after the change."""
        if change.new_names is None:
            return True
        question = self._question(
            RekeyAction.CHECK_FILE, change=change.change_id, mark=self._mark(change.new)
        )

        async def ask(one: HostProgress) -> None:
            answer = await self._ask(one.host.host_id, question)
            if self._judge(one, answer) is None and one.trouble is not None and one.answers:
                # The host is not at fault: an administrator has to edit its file first.
                one.trouble = attrs.evolve(one.trouble, outcome=HostOutcome.WAITING)

        await self._for_each(ask, [one for one in self._all.values() if one.trouble is None])
        return not any(one.trouble for one in self._all.values())

    def _may_begin(self, phase: Phase) -> bool:
        levels = [one.level for one in self._all.values() if one.trouble is None]
        known = [level for level in levels if level is not None]
        return len(known) == len(self._all) and may_begin(phase, known)

    async def _ask_all(
        self, action: RekeyAction, change: KeyChange, hosts: list[HostProgress]
    ) -> None:
        """Send a request to hosts at the same time, and note their levels."""
        question = self._question(
            action,
            change=change.change_id,
            mark=self._mark(change.new),
        )
        if action is RekeyAction.SET:
            question = attrs.evolve(
                question,
                action=action if change.new_names is None else RekeyAction.SET_CRYPTO,
                old_names=change.old_names,
                new_names=change.new_names,
                began_by=change.began_by,
                old_mark=self._mark(change.old),
                key=encode_key(change.new),
            )

        async def ask(one: HostProgress) -> None:
            answer = self._judge(one, await self._ask(one.host.host_id, question))
            if answer is not None:
                self._note_level(one, answer, change)

        await self._for_each(ask, hosts)

    def _judge(self, one: HostProgress, answer: RekeyAnswer | NoAnswer) -> RekeyAnswer | None:
        """Note why a host does not do what it was asked; return the answer of one that does."""
        if isinstance(answer, NoAnswer):
            one.trouble = answer
            return None
        if answer.refused is not None:
            one.trouble = NoAnswer(HostOutcome.REFUSED, answer.refused)
            return answer if answer.holder is not None else None
        return answer

    def _note_levels(self, answers: dict[int, RekeyAnswer], change: KeyChange) -> None:
        for host_id, answer in answers.items():
            self._note_level(self._all[host_id], answer, change)

    def _note_level(self, one: HostProgress, answer: RekeyAnswer, change: KeyChange) -> None:
        has_new = answer.mark == self._mark(change.new)
        if has_new or answer.mark == self._mark(change.old):
            in_change = answer.change == change.change_id
            one.level = find_level(in_change=in_change, has_new=has_new)
        else:
            reason = "it has a key that is not part of the change: copy the key file to it"
            one.trouble = NoAnswer(HostOutcome.REFUSED, reason)

    # Helpers.

    def _question(self, action: RekeyAction, **members: Any) -> RekeyQuestion:
        return RekeyQuestion(action=action, run=self._run, **members)

    def _mark(self, key: bytes) -> str:
        return make_fingerprint(key, self._run.encode())

    async def _for_each(
        self, work: Callable[[HostProgress], Awaitable[None]], hosts: Iterable[HostProgress]
    ) -> None:
        async with trio.open_nursery() as nursery:
            for one in hosts:
                nursery.start_soon(work, one)

    def _report(self, change: KeyChange, *, resumed: bool) -> RekeyReport:
        names = find_names(self._participant.keys, change)[1]
        return make_report(change, names, self._all.values(), self._excluded, resumed=resumed)
