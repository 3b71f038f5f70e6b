"""The running parts, and their replacement after a reload of the file: all or nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from knet_trio.cli.ending import describe_error
from knet_trio.cli.run.log import LOGGER
from knet_trio.cli.run.parts import EXPECTED, HostPart, RunningPart


class Parts:
    """The parts of a host, each in a task of its own.

    Args:
        nursery: The nursery of the tasks.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[str, RunningPart] = {}

    async def start(self, wanted: dict[str, HostPart]) -> None:
        """Start parts; the first error is raised."""
        for part in wanted.values():
            await self._start(part)

    async def stop(self) -> None:
        """Close all parts at once, and wait until they have ended."""
        for running in self._running.values():
            running.leave()
        for running in self._running.values():
            await running.ended.wait()
        self._running.clear()

    @asynccontextmanager
    async def swapped(self, wanted: dict[str, HostPart]) -> AsyncGenerator[None]:
        """Replace the running parts; parts that are the same go on.

        An error that leaves the block starts the old parts again.

        Args:
            wanted: The new parts, by their keys.

        Raises:
            KnetError, OSError: A part cannot be started; the old parts run again.
        """
        before = dict(self._running)
        going = [
            running for key, running in before.items() if not _is_same(running, wanted.get(key))
        ]
        coming = [part for key, part in wanted.items() if not _is_same(before.get(key), part)]
        # Stopped first: a new part may need a path or a port of an old one.
        stopped = [
            running
            for running in going
            if not (running.part.has_successor_beside and running.part.key in wanted)
        ]
        for running in stopped:
            await self._stop(running)
        try:
            for part in coming:
                await self._start(part)
            yield
        except Exception:
            await self._restore(before, stopped, coming)
            raise
        for running in going:
            if running not in stopped:
                self._nursery.start_soon(_stop_later, running)
        for running in stopped:
            LOGGER.info("stopped: %s", running.part.title)

    async def _restore(
        self, before: dict[str, RunningPart], stopped: list[RunningPart], coming: list[HostPart]
    ) -> None:
        for part in coming:
            running = self._running.get(part.key)
            if running is not None and running.part is part:
                await self._stop(running)
        for key, running in before.items():
            self._running.setdefault(key, running)
        for running in stopped:
            try:
                await self._start(running.part)
            except EXPECTED as error:
                LOGGER.error(
                    "%s cannot be started again: %s", running.part.title, describe_error(error)
                )

    async def _start(self, part: HostPart) -> None:
        running = RunningPart(part)
        await self._nursery.start(running.run)
        self._running[part.key] = running
        LOGGER.info("started: %s", part.title)

    async def _stop(self, running: RunningPart) -> None:
        await running.stop()
        if self._running.get(running.part.key) is running:
            del self._running[running.part.key]


def _is_same(running: RunningPart | None, part: HostPart | None) -> bool:
    """Return whether a part runs already; one that has failed has to be started again."""
    return running is not None and running.part == part and not running.ended.is_set()


async def _stop_later(running: RunningPart) -> None:
    await trio.sleep(running.part.linger)
    await running.stop()
