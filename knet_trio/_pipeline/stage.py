"""Stages: steps that have a task, since their work may have to wait.

Batches of messages pass between the stages. A batch that does not have to wait goes through all
stages in the turn of the task that sends it. A batch that has to wait does so in a lane, and the
key of the lane goes through the memory channel of the next stage.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar, Generic, TypeVar

import trio

from knet_trio._state.turns import Turns

Key = TypeVar("Key", bound=Hashable)


class Stage(ABC, Generic[Key]):
    """Works on lanes in turns, one piece of each after the other.

    A lane is in the memory channel at most once, so the channel never holds more keys than there
    are lanes. A lane that has more work after a piece goes to the end of the channel.
    """

    name: ClassVar[str]

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._send_channel, self._receive_channel = trio.open_memory_channel[Key](math.inf)
        self._woken: set[Key] = set()
        self._closed = False

    def wake(self, key: Key) -> None:
        """Have the stage look at the lane ``key``."""
        if key not in self._woken and not self._closed:
            self._woken.add(key)
            self._send_channel.send_nowait(key)

    def close(self) -> None:
        """Take no more keys, since the task has ended or is about to."""
        self._closed = True
        self._send_channel.close()
        self._receive_channel.close()

    @abstractmethod
    async def work(self, key: Key) -> bool:
        """Do one piece of the work of a lane, and return whether it has more work now.

        Not a checkpoint unless it has to wait.
        """

    async def run(self) -> None:
        """Work until cancelled or closed."""
        turns = self._turns
        while True:
            before = turns.round
            try:
                key = await self._receive_channel.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            turns.resumed(before)
            self._woken.discard(key)
            if await self.work(key):
                self.wake(key)
            if turns.is_over():
                await turns.give_up()
