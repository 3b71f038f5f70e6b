"""Stages: steps that have a task, since what they do may have to wait.

What passes between the stages are batches of messages. Where nothing has to wait, a batch goes
through all of them in the turn of whoever sends it. Where something has to, it waits in a lane, and
the key of the lane goes through the memory channel of the stage that will work on it.
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
    """Works on lanes that have something to do, one piece of each after the other.

    A lane is in the memory channel at most once, so the channel holds no more than there are lanes;
    when a piece is done and there is more, the lane goes to the end of it.
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
        """Take no more keys: the task has ended, or is about to."""
        self._closed = True
        self._send_channel.close()
        self._receive_channel.close()

    @abstractmethod
    async def work(self, key: Key) -> bool:
        """Do one piece of the work of a lane, and return whether there is more to do now.

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
