"""What has to be so when a scenario has been played."""

from __future__ import annotations

import gc
import math
from collections import defaultdict

from knet_trio.streams import HandlerError, RefusedError
from knet_trio.streams._core.limits import WINDOW_BUDGET
from knet_trio.streams._core.stream_state import StreamState
from tests.streams.pairs import pumps_of
from tests.streams.simulation.cluster import Cluster
from tests.streams.simulation.node import REFUSAL, TROUBLE
from tests.streams.simulation.record import Call, Result, fail
from tests.streams.simulation.scenario import Job, JobKind, Style

# What an error says, and what may be the reason for it.
SILENCE = ("has not answered within patience", "did not hear of this host for too long")
FORGOTTEN = ("no longer knows this stream",)
RESTARTED = ("has restarted its streams",)
GIVEN_UP = ("cancelled by", "closed by")
ENDED = ("it has no", "its listener was closed", "takes no", "it was cancelled", "closed by")


class Judge:
    """Compares what happened with what was promised."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._record = cluster.record
        self._scenario = cluster.scenario
        self._slack = cluster.scenario.recovery
        # What other tests have left in this process.
        self._others = find_streams()

    def check_all(self) -> None:
        """Raise BrokenPromiseError if anything is not as it has to be."""
        record = self._record
        for call in record.calls:
            if call.result is Result.OPEN:
                fail(f"it hangs: {call}")
            if call.result is Result.FAILED:
                for error in call.errors:
                    self._check_error(call, error)
            self._check_late(call)
        for job in self._cluster.jobs.values():
            if job.kind is JobKind.STREAM:
                self._check_stream(job)
            elif job.kind is JobKind.REQUEST:
                self._check_request(job)
        self._check_messages()

    # Errors.

    def _check_error(self, call: Call, error: Exception) -> None:
        """Hold that what was done to the hosts is a reason for an error."""
        text = str(error)
        if isinstance(error, RefusedError | HandlerError):
            allowed = self._may_refuse(call, text)
        elif any(words in text for words in GIVEN_UP) and self._was_given_up(call):
            allowed = True
        elif call.calm:
            allowed = False
        else:
            silent = any(words in text for words in SILENCE + FORGOTTEN)
            ended = any(words in text for words in RESTARTED + FORGOTTEN + ENDED)
            allowed = (silent and self._was_silent(call)) or (ended and self._restarted(call))
        if not allowed:
            fail(f"no reason for an error: {call}; {self._cluster.troubles(call.host, call.peer)}")

    def _may_refuse(self, call: Call, text: str) -> bool:
        style = None if call.job is None else call.job.style
        if style is Style.REFUSE and REFUSAL in text:
            return True
        if style is Style.RAISE and f"ValueError: {TROUBLE}" in text:
            return True
        return any(words in text for words in ENDED) and not call.calm and self._restarted(call)

    def _window(self, call: Call) -> tuple[float, float]:
        """From when to when something may have happened that a call fails for."""
        return call.begin - self._scenario.patience - self._slack, call.end

    def _was_silent(self, call: Call) -> bool:
        """Whether the hosts can have been unable to reach each other for ``patience``."""
        begin, end = self._window(call)
        merged: list[list[float]] = []
        for start, stop in self._cluster.troubles(call.host, call.peer):
            if merged and start - merged[-1][1] < self._slack:
                merged[-1][1] = stop
            else:
                merged.append([start, stop])
        return any(
            start <= end and stop >= begin and stop - start + self._slack >= self._scenario.patience
            for start, stop in merged
        )

    def _restarted(self, call: Call) -> bool:
        begin, end = self._window(call)
        return any(
            life.host in (call.host, call.peer)
            and (
                (begin <= life.began <= end and life.number > self._scenario.hosts)
                or begin <= life.ended <= end + self._slack
            )
            for life in self._record.lives
        )

    def _was_given_up(self, call: Call) -> bool:
        """Whether the other side did not want to go on."""
        if call.job is None:
            return any(
                other.host == call.peer
                and (
                    other.result is not Result.DONE
                    or (other.job is not None and other.job.style is Style.ABORT)
                )
                for other in self._record.calls
                if other.job is None or other.job.kind is JobKind.STREAM
            )
        if call.job.style in (Style.ABORT, Style.DROP):
            return True
        return any(
            # A stream that ended before its first bytes were read may have been this one.
            (other.job is call.job or (other.job is None and other.host == call.peer))
            and other is not call
            and other.result in (Result.FAILED, Result.CANCELLED, Result.DIED)
            for other in self._record.calls
        )

    def _check_late(self, call: Call) -> None:
        """Hold that a call does not wait for a host for longer than ``patience``."""
        longest = self._scenario.patience + self._slack
        for start, stop in self._cluster.troubles(call.host, call.peer):
            known = max(start, call.begin)
            until = min(stop, call.end)
            if until - known > longest:
                fail(f"it waited for too long, from {start}: {call}")

    # Jobs.

    def _calls(self, job: Job, host: int) -> list[Call]:
        return [call for call in self._record.calls if call.job is job and call.host == host]

    def _check_stream(self, job: Job) -> None:
        for call in self._calls(job, job.a):
            if call.result is Result.DONE and job.style is Style.PLAIN:
                way = self._record.ways[job.number, True]
                if not way.ended:
                    fail(f"it did not come to the end: {call}")

    def _check_request(self, job: Job) -> None:
        for call in self._calls(job, job.a):
            done = self._record.executed[job.number]
            if call.result is Result.DONE and done != 1:
                fail(f"it was done {done} times: {call}")
            if done and job.style is not Style.REFUSE:
                for error in call.errors:
                    if isinstance(error, RefusedError):
                        fail(f"it was done and refused: {call}")
            for handler in self._calls(job, job.b):
                self._check_told(call, handler)

    def _check_told(self, call: Call, handler: Call) -> None:
        """Hold that a handler that waits for it learns that nobody wants the answer any more."""
        if call.job is None or call.job.style is not Style.WAIT:
            return
        late = handler.end - call.end
        limit = self._slack
        troubles = self._cluster.troubles(call.host, call.peer)
        if any(start <= handler.end and stop >= call.begin for start, stop in troubles):
            limit += self._scenario.patience
        if late > limit:
            fail(f"the handler was told after {late} s of the end of {call}")

    def _check_messages(self) -> None:
        """Hold that messages that were taken are there, once, and in order."""
        record = self._record
        taken = {
            (call.job.number, call.part): call
            for call in record.calls
            if call.job is not None
            and call.job.kind is JobKind.MESSAGES
            and call.result is Result.DONE
        }
        seen: set[tuple[int, int]] = set()
        last: defaultdict[tuple[int, int], int] = defaultdict(lambda: -1)
        for number, heads in record.messages.items():
            for head in heads:
                name = (head.job, head.part)
                if name in seen:
                    fail(f"message {head} came twice")
                seen.add(name)
                if name in taken:
                    if head.part < last[number, head.job]:
                        fail(f"message {head} came late, in life {number}")
                    last[number, head.job] = head.part
        for name, call in taken.items():
            if name not in seen and not self._may_be_lost(call, last):
                fail(f"it was taken and did not come: {call}")

    def _may_be_lost(self, call: Call, last: dict[tuple[int, int], int]) -> bool:
        """Whether a message was in the queue of a host whose life ended before it took it."""
        assert call.job is not None
        return any(
            life.host == call.peer
            and life.began <= call.end
            and call.begin <= life.ended < math.inf
            and last.get((life.number, call.job.number), -1) < call.part
            # A reader has taken what came before by then, if it is not lazy.
            and (self._scenario.lazy > 0 or life.ended <= call.end + self._slack)
            for life in self._record.lives
        )

    # What is left.

    def check_left(self) -> None:
        """Hold that nothing is left of streams, while they are open still."""
        for node in self._cluster.nodes.values():
            life = node.life
            assert life is not None
            assert life.streams is not None
            for pump in pumps_of(life.streams):
                where = f"of host {pump.host_id} at host {node.host}"
                if pump.requests.held or pump.answers.held:
                    fail(f"{pump.requests.held} and {pump.answers.held} bytes are held {where}")
                connection = pump.conversation.connection
                if connection is None:
                    continue
                if connection.has_streams or connection.has_unacknowledged:
                    fail(f"there is something left {where}: {connection}")
                windows = connection._windows  # pyright: ignore[reportPrivateUsage]
                if windows.left != WINDOW_BUDGET:
                    fail(f"{WINDOW_BUDGET - windows.left} bytes of windows are left {where}")

    def check_garbage(self) -> None:
        """Hold that nobody holds a stream any more."""
        gc.collect()
        left = [each for each in find_streams() if not any(each is one for one in self._others)]
        if left:
            fail(f"{len(left)} streams are left, as {left[0]}")


def find_streams() -> list[StreamState]:
    """The streams that somebody holds."""
    return [each for each in gc.get_objects() if isinstance(each, StreamState)]
