"""A service manager that does not read, and lines that several tasks ask for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from knet_trio import open_handle
from knet_trio.cli.run.links_up import LinksUp
from knet_trio.cli.run.supervisor import Supervisor


async def test_a_manager_that_does_not_read_holds_up_nobody_for_long(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        supervisor = Supervisor({"NOTIFY_SOCKET": str(path)})
        # Until there is no room for more, and time goes by.
        began = trio.current_time()
        while trio.current_time() == began:
            await supervisor.notify("STATUS=leaving")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for line in ("WATCHDOG=1", "READY=1", "STATUS=leaving"):
                nursery.start_soon(supervisor.notify, line)
        assert trio.current_time() - began == pytest.approx(1.0)
        supervisor.close()
        await supervisor.notify("STOPPING=1")


async def test_two_that_ask_for_the_line_get_the_same() -> None:
    async with open_handle(1) as handle:
        for host_id in range(2, 7):
            handle.add_host(host_id)
        links = LinksUp(handle)
        said: list[str] = []

        async def describe() -> None:
            said.append(await links.describe())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(describe)
            nursery.start_soon(describe)
        assert said == ["0 of 5 hosts reachable, 0 of 0 links up"] * 2
