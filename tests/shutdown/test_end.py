"""The end of a handle, which takes several turns: whatever comes in between, nobody waits on."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import trio

from knet_trio import Handle, open_handle
from knet_trio._state.network_link import NetworkLinkState
from tests.cancelling import kinds, nothing_left
from tests.cluster import LOCALHOST, PATIENCE

HOSTS = 20


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("what", "raised"), [(interrupt, KeyboardInterrupt), (fail, ZeroDivisionError)]
)
def test_what_comes_in_between_leaves_nobody_waiting(
    what: Callable[[], None], raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = NetworkLinkState.end
    ended: list[NetworkLinkState] = []
    got: list[str] = []

    def end_noted(link: NetworkLinkState) -> None:
        ended.append(link)
        end(link)
        if len(ended) == HOSTS // 2:
            what()

    async def wait_for_a_message(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
        channel = handle.open_channel(0)
        task_status.started()
        async for _ in channel:
            pass
        got.append("message")

    async def wait_for_an_event(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
        async with handle.events() as events:
            task_status.started()
            async for _ in events:
                pass
        got.append("event")

    async def wait_for_the_last(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with pytest.raises(trio.ClosedResourceError):
            await handle.get_host(HOSTS + 1).wait_reachable()
        got.append("host")

    async def main() -> None:
        with nothing_left(), trio.fail_after(PATIENCE):
            async with trio.open_nursery() as waiting:
                with pytest.raises((BaseExceptionGroup, KeyboardInterrupt)) as caught:
                    async with open_handle(1) as handle:
                        for number in range(HOSTS):
                            host = handle.add_host(2 + number)
                            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 9))
                        for wait in (wait_for_a_message, wait_for_an_event, wait_for_the_last):
                            await waiting.start(wait, handle)
                        monkeypatch.setattr(NetworkLinkState, "end", end_noted)
                assert set(kinds(caught.value)) == {raised}

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ended) == HOSTS
    assert sorted(got) == ["event", "host", "message"]
