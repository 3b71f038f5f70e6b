"""What became of each job, as its hosts saw it."""

from __future__ import annotations

import enum
import hashlib
import math
from collections import Counter, defaultdict
from typing import NoReturn

import attrs
import trio

from knet_trio import Handle
from knet_trio.streams import Streams
from tests.streams.simulation.data import Head
from tests.streams.simulation.scenario import Job


class BrokenPromiseError(AssertionError):
    """Something was not as it has to be."""


class Result(enum.StrEnum):
    """How a call ended."""

    OPEN = "open"
    DONE = "done"
    CANCELLED = "cancelled"
    DIED = "died"
    FAILED = "failed"


@attrs.define(eq=False)
class Life:
    """The time from one start of a host to its end; ``number`` is that of no other life."""

    host: int
    number: int
    began: float
    ended: float = math.inf
    handle: Handle | None = None
    streams: Streams | None = None


@attrs.define(eq=False)
class Call:
    """What a host does for a job: the one that wants it, or the one that is asked.

    ``job`` is None for a stream that ended before its first bytes said what it is for. ``calm``
    means that nothing is wrong with the network any more.
    """

    job: Job | None
    host: int
    peer: int
    part: int = 0
    calm: bool = False
    begin: float = attrs.field(factory=trio.current_time)
    end: float = math.inf
    result: Result = Result.OPEN
    errors: list[Exception] = attrs.Factory(list[Exception])

    def __str__(self) -> str:
        what = "a stream" if self.job is None else f"{self.job.kind} {self.job.number}"
        return (
            f"{what}, part {self.part}, of host {self.host} with {self.peer}, "
            f"{self.begin:.3f} to {self.end:.3f}, {self.result}: {self.errors}"
        )


@attrs.define(eq=False)
class Way:
    """What goes one way on a stream, without what names the job.

    Attributes:
        sent: Bytes of which calls have said that they were sent.
        sending: Those of the call that was made last, if it has not returned.
        closed: Whether this side has ended it, or closed the stream.
        got: Bytes that were read.
        ended: Whether the end was read.
    """

    sent: int = 0
    sending: int = 0
    closed: bool = False
    got: int = 0
    ended: bool = False


class Record:
    """All that happened.

    Attributes:
        busy: How many jobs have begun and not ended, at the hosts that want them.
    """

    def __init__(self) -> None:
        self.busy = 0
        self.lives: list[Life] = []
        self.calls: list[Call] = []
        self.ways: defaultdict[tuple[int, bool], Way] = defaultdict(Way)
        self.accepted: Counter[int] = Counter()
        self.executed: Counter[int] = Counter()
        self.messages: defaultdict[int, list[Head]] = defaultdict(list)
        self._log = hashlib.sha256()

    def note(self, *facts: object) -> None:
        """Have it be part of what two runs with one seed have in common."""
        self._log.update(f"{trio.current_time():.9f} {facts}\n".encode())

    def digest(self) -> str:
        """What two runs with one seed have in common."""
        return self._log.hexdigest()

    def new_life(self, host: int) -> Life:
        """A host starts."""
        life = Life(host, len(self.lives) + 1, trio.current_time())
        self.lives.append(life)
        self.note("life", host, life.number)
        return life

    def begin(self, job: Job | None, host: int, peer: int, part: int, *, calm: bool) -> Call:
        """A call begins."""
        call = Call(job, host, peer, part, calm)
        self.calls.append(call)
        return call

    def end(self, call: Call, result: Result, errors: list[Exception] | None = None) -> None:
        """It has ended."""
        call.end, call.result, call.errors = trio.current_time(), result, errors or []
        for error in call.errors:
            # What they know of where they were raised would hold what nobody else does.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        number = None if call.job is None else call.job.number
        self.note("call", number, call.host, call.part, str(result))

    def accept(self, head: Head) -> None:
        """A stream was accepted."""
        self.accepted[head.job] += 1
        if self.accepted[head.job] > 1:
            fail(f"the stream of job {head.job} was accepted twice")

    def execute(self, head: Head) -> None:
        """A request is done."""
        self.executed[head.job] += 1
        self.note("request", head)
        if self.executed[head.job] > 1:
            fail(f"the request of job {head.job} was done twice")

    def read(self, job: int, back: bool, data: bytes, expected: bytes) -> None:
        """Bytes of a stream were read."""
        way = self.ways[job, back]
        if data:
            if data != expected[way.got : way.got + len(data)]:
                fail(f"other bytes at {way.got} of the stream of job {job}, back={back}")
            way.got += len(data)
            return
        way.ended = True
        if back and not way.got and not self.accepted[job]:
            # It was closed by who was cancelled before reading which job it is for.
            return
        # A call that was cancelled when it had handed over all was no failure of the stream.
        if not way.closed or way.got not in (way.sent, way.sent + way.sending):
            fail(f"an early end of the stream of job {job}, back={back}, after {way.got} bytes")


def fail(why: str) -> NoReturn:
    """Say what is wrong."""
    raise BrokenPromiseError(f"at {trio.current_time():.3f}: {why}")
