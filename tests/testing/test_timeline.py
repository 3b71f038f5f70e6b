from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio.testing.timeline import Timeline


async def test_all_happens_in_its_time_and_in_order(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    timeline, happened = Timeline(), list[tuple[str, float]]()

    def happen(what: str) -> None:
        happened.append((what, trio.current_time()))

    nursery.start_soon(timeline.run)
    timeline.at(2, partial(happen, "second"))
    timeline.at(2, partial(happen, "third"))
    await trio.sleep(0.5)
    timeline.at(1, partial(happen, "first"))
    await trio.sleep(2)
    assert happened == [("first", 1), ("second", 2), ("third", 2)]


async def test_what_happens_may_bring_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    timeline, count = Timeline(), 0

    def happen() -> None:
        nonlocal count
        count += 1
        if count < 1000:
            timeline.at(0, happen)

    nursery.start_soon(timeline.run)
    timeline.at(0, happen)
    await wait_all_tasks_blocked()
    assert count == 1000
