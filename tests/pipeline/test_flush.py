"""Many tasks flush, and give it up, behind a message that is stuck."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.pipeline.test_send_lanes import Sockets

MANY = 5000


@pytest.mark.parametrize("urgent", [False, True])
async def test_thousands_that_were_cancelled_cost_nothing(
    urgent: bool, nursery: trio.Nursery
) -> None:
    sockets = Sockets(2)
    async with sockets.running() as transmitter:
        await wait_all_tasks_blocked()
        sockets.hold(2)
        if urgent:
            nursery.start_soon(transmitter.send_sync, b"stuck", 0, (2,))
            await wait_all_tasks_blocked()
        else:
            await transmitter.send((b"stuck",), 0, (2,))
        flushes = transmitter._flushes  # pyright: ignore[reportPrivateUsage]
        seen: set[object] = set()
        for _ in range(MANY):
            with trio.CancelScope() as scope:
                scope.cancel()
                await transmitter.flush()
            assert scope.cancelled_caught
            (event,) = transmitter._lanes.flushed()  # pyright: ignore[reportPrivateUsage]
            seen.add(event)
        # One for all of them.
        assert len(seen) == 1
        assert not flushes
        sockets.release(2)
        with trio.fail_after(5):
            await transmitter.flush()
        assert sockets.payloads(2) == [b"stuck"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["it is sent", "the handle ends"])
async def test_one_that_is_cancelled_is_no_matter_to_another(
    how: str, nursery: trio.Nursery
) -> None:
    sockets = Sockets(2)
    outcomes: list[str] = []
    async with sockets.running() as transmitter:
        sockets.hold(2)
        await transmitter.send((b"stuck",), 0, (2,))

        async def flush() -> None:
            try:
                await transmitter.flush()
            except trio.ClosedResourceError:
                outcomes.append("closed")
            else:
                outcomes.append("flushed")

        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(flush)
            nursery.start_soon(flush)
            await wait_all_tasks_blocked()
            cancelled.cancel_scope.cancel()
        if how == "it is sent":
            sockets.release(2)
        else:
            transmitter.close()
        await wait_all_tasks_blocked()
        assert outcomes == ["flushed" if how == "it is sent" else "closed"]
    nursery.cancel_scope.cancel()
