"""The exchange of news between the hosts: each asks all others for news, and passes news on.

A host asks every host that it reaches, over any link, and the answer waits until there is news. It
asks them for news of the hosts that it does not reach, too. So all hosts that are connected in any
way know the same after a moment.
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
"""Seconds after which a host that did not answer is asked again."""
MET_FOR: Final = 3.0
"""Seconds after hearing a host in which other hosts are not asked for its news."""
MAX_SIZE: Final = 16 * 1024 * 1024
"""The largest size of a question or an answer, in bytes."""


class Exchange:
    """The exchange of one host with all others.

    Args:
        handle: The handle, with all hosts of the file.
        streams: The streams of its service channel.
        own: The first news of this host.

    Attributes:
        byes: The ids of hosts that have their verdict and leave.
    """

    def __init__(self, handle: Handle, streams: Streams, own: HostNews) -> None:
        self._hosts: tuple[Host, ...] = tuple(handle.hosts.values())
        self._streams = streams
        self._me = own.host_id
        self._news = {own.host_id: own}
        self._met: dict[int, float] = {}
        # The age of this host's news that each other host got last.
        self._sent_ages: dict[int, tuple[int, int]] = {}
        self._changed = trio.Event()
        self.byes: set[int] = set()

    @property
    def own(self) -> HostNews:
        """The news of this host."""
        return self._news[self._me]

    @property
    def news(self) -> Mapping[int, HostNews]:
        """The news of all hosts that have come, this one included, by their ids."""
        return MappingProxyType(self._news)

    def publish(self, phase: PreflightPhase, **changes: Any) -> None:
        """Publish news of this host.

        Args:
            phase: The phase that it is in.
            changes: The other fields of ``HostNews`` that change.
        """
        own = self.own
        self._news[self._me] = attrs.evolve(
            own, phase=phase.value, number=own.number + 1, **changes
        )
        self._ring()

    def has_met(self, host_id: int) -> bool:
        """Return whether a host was heard directly a moment ago."""
        return trio.current_time() - self._met.get(host_id, -math.inf) < MET_FOR

    async def wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        """Wait until a condition holds.

        Args:
            condition: Returns whether it holds; called when there is news.
            deadline: When to give up, on Trio's clock.

        Returns:
            Whether the condition holds.
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
        """Send the news of this host, and that it leaves, to all hosts heard a moment ago."""
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
        """Ask a host for news and process the answer; return whether the host has answered."""
        own = self.own
        is_known = self._sent_ages.get(host.host_id) == own.age
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
            news=None if is_known else own,
        )
        try:
            reply = await self._streams.request(host, dump(to_json(question)).encode())
            answer = from_json(NewsAnswer, load(reply))
        except (trio.BrokenResourceError, HandlerError, MisfitError):
            # The host may not be there yet, or another program runs there, which the verdict
            # reports.
            return False
        self._sent_ages[host.host_id] = own.age
        self._meet(host.host_id)
        self._take(answer.news)
        return True

    # Answering.

    async def _answer(self, request: HostRequest) -> None:
        async with request:
            try:
                question = from_json(NewsQuestion, load(request.data))
            except MisfitError as error:
                await request.refuse(f"this is not a question of a preflight: {error}")
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
        """Return the news that the asking host wants and does not know yet."""
        wanted = {self._me, *question.wanted}
        return [
            news
            for host_id, news in self._news.items()
            if host_id in wanted and news.age > tuple(question.known.get(str(host_id), ()))
        ]

    # Storing news.

    def _meet(self, host_id: int) -> None:
        self._met[host_id] = trio.current_time()

    def _take(self, received: Iterable[HostNews]) -> None:
        hosts = {host.host_id for host in self._hosts}
        for news in received:
            known = self._news.get(news.host_id)
            if news.host_id not in hosts or (known is not None and known.age >= news.age):
                continue
            self._news[news.host_id] = news
            self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
