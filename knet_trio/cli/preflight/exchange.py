"""What the hosts tell each other: each asks all others for news, and passes on what it was told.

A host asks each other one that it reaches, over whichever link, and the answer waits until there is
news. Of a host that it does not reach it asks the others. So everybody who is connected to the
others in any way knows the same after a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

import attrs
import trio

from knet_trio import Handle, Host
from knet_trio.cli.preflight.records import (
    VERSION,
    HostNews,
    NewsAnswer,
    NewsQuestion,
    PreflightPhase,
)
from knet_trio.control.codec import MisfitError, dump, from_json, load, to_json
from knet_trio.streams import HandlerError, HostRequest, Streams

HOLD: Final = 1.0
"""Seconds that an answer waits for news, at most."""
AGAIN: Final = 0.2
"""Seconds after which a host is asked again that did not answer."""
MET_FOR: Final = 3.0
"""Seconds for which a host that was heard is one that need not be asked for at others."""
MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a question or of an answer, at most."""


class Exchange:
    """Tells the other hosts of this one, and learns of them.

    Args:
        handle: The handle, with all hosts of the file.
        streams: Those of its service channel.
        own: What this host says of itself at first.

    Attributes:
        byes: The ids of hosts that have their verdict, and leave.
    """

    def __init__(self, handle: Handle, streams: Streams, own: HostNews) -> None:
        self._hosts: tuple[Host, ...] = tuple(handle.hosts.values())
        self._streams = streams
        self._me = own.host_id
        self._news = {own.host_id: own}
        self._met: dict[int, float] = {}
        # What each host was told last of this one.
        self._told: dict[int, tuple[int, int]] = {}
        self._changed = trio.Event()
        self.byes: set[int] = set()

    @property
    def own(self) -> HostNews:
        """What this host says of itself."""
        return self._news[self._me]

    @property
    def news(self) -> Mapping[int, HostNews]:
        """What is known of all hosts that have come, this one included, by their ids."""
        return MappingProxyType(self._news)

    def publish(self, phase: PreflightPhase, **changes: Any) -> None:
        """Say something new of this host."""
        own = self.own
        self._news[self._me] = attrs.evolve(
            own, phase=phase.value, number=own.number + 1, **changes
        )
        self._ring()

    def has_met(self, host_id: int) -> bool:
        """Return whether a host was heard directly a moment ago."""
        return trio.current_time() - self._met.get(host_id, -math.inf) < MET_FOR

    async def wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until ``condition`` holds, which is looked at when there is news.

        Returns:
            Whether it holds; False when ``deadline`` has come first, on Trio's clock.
        """
        with trio.move_on_at(deadline):
            await trio.lowlevel.checkpoint()
            while not condition():
                await self._changed.wait()
        return condition()

    async def run(self) -> None:
        """Ask and answer until cancelled."""
        async with trio.open_nursery() as nursery, self._streams.requests() as requests:
            for host in self._hosts:
                nursery.start_soon(self._ask_again, host)
            async for request in requests:
                nursery.start_soon(self._answer, request)

    async def say_goodbye(self) -> None:
        """Tell all hosts that were met how far this one is, and that it leaves."""
        async with trio.open_nursery() as nursery:
            for host in self._hosts:
                if self.has_met(host.host_id):
                    nursery.start_soon(self._ask, host, True)

    # Asking.

    async def _ask_again(self, host: Host) -> None:
        while True:
            await host.wait_reachable()
            if not await self._ask(host, False):
                await trio.sleep(AGAIN)

    async def _ask(self, host: Host, bye: bool) -> bool:
        """Ask a host, and take what it answers; return whether it has answered."""
        own = self.own
        told = self._told.get(host.host_id) == own.age
        question = NewsQuestion(
            version=VERSION,
            known={str(host_id): news.age for host_id, news in self._news.items()},
            wanted=tuple(
                other.host_id
                for other in self._hosts
                if other is not host and not self.has_met(other.host_id)
            ),
            hold=HOLD,
            bye=bye,
            news=None if told else own,
        )
        try:
            said = await self._streams.request(host, dump(to_json(question)).encode())
            answer = from_json(NewsAnswer, load(said))
        except (trio.BrokenResourceError, HandlerError, MisfitError):
            # It may not be there yet, or something else than this command runs there, of which
            # the verdict has to tell.
            return False
        self._told[host.host_id] = own.age
        self._meet(host.host_id)
        self._take(answer.news)
        return True

    # Answering.

    async def _answer(self, request: HostRequest) -> None:
        async with request:
            try:
                question = from_json(NewsQuestion, load(request.data))
            except MisfitError as error:
                await request.refuse(f"it is no question of a preflight: {error}")
                return
            if question.version != VERSION:
                await request.refuse(f"this preflight speaks version {VERSION}")
                return
            self._meet(request.source)
            if question.news is not None:
                self._take([question.news])
            if question.bye:
                self.byes.add(request.source)
                self._ring()
            else:
                hold = min(question.hold, HOLD)
                until = trio.current_time() + hold
                await self.wait(lambda: bool(self._newer_than(question)), until)
            answer = NewsAnswer(news=tuple(self._newer_than(question)))
            with suppress(trio.BrokenResourceError):
                await request.answer(dump(to_json(answer)).encode())

    def _newer_than(self, question: NewsQuestion) -> Sequence[HostNews]:
        """Return what the host that asks wants to know, and does not know yet."""
        wanted = {self._me, *question.wanted}
        return [
            news
            for host_id, news in self._news.items()
            if host_id in wanted and news.age > tuple(question.known.get(str(host_id), ()))
        ]

    # What is known.

    def _meet(self, host_id: int) -> None:
        self._met[host_id] = trio.current_time()

    def _take(self, told: Iterable[HostNews]) -> None:
        hosts = {host.host_id for host in self._hosts}
        for news in told:
            known = self._news.get(news.host_id)
            if news.host_id not in hosts or (known is not None and known.age >= news.age):
                continue
            self._news[news.host_id] = news
            self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
