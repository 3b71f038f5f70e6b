from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import trio
from trio.testing import MockClock

from knet_trio.cli.events import SettledEvents, event_text
from knet_trio.control import (
    ChannelEvent,
    ControlEvent,
    DataMtuEvent,
    HostEvent,
    LinkEvent,
    MissedEvents,
)
from tests.cli.commands import COMMAND, environment, run, socket_of, started
from tests.cli.test_status import read_screen
from tests.cluster import PATIENCE
from tests.control.serving import Served, open_served

WATCHING = b"watching host 1; end with Ctrl-C\n"


async def toggle(served: Served) -> None:
    """Have something happen again and again: nothing says when somebody listens."""
    while True:
        served.link.enabled = not served.link.enabled
        await trio.sleep(0.01)


async def test_events_are_lines_with_time_and_reason(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, trio.open_nursery() as nursery:
        nursery.start_soon(toggle, served)
        done = await run("events", "--count", 4, *socket_of(served.path))
        assert (done.status, done.errors) == (0, "watching host 1; end with Ctrl-C\n")
        lines = done.output.splitlines()
        assert len(lines) == 4
        assert all(line[:4].isdigit() for line in lines)
        said = {line.split("  ", 1)[1] for line in lines}
        assert "link 0 to host 1 (me) is down: it was disabled here" in said
        assert any("host 1 (me) is reachable" in line for line in said)
        nursery.cancel_scope.cancel()


async def test_it_begins_with_the_host(tmp_path: Path) -> None:
    async with open_served(tmp_path, name="me") as served, trio.open_nursery() as nursery:
        nursery.start_soon(toggle, served)
        ours, theirs = pty.openpty()
        process = await trio.to_thread.run_sync(
            lambda: subprocess.Popen(
                [*COMMAND, "events", "--count", "1", *socket_of(served.path)],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                env=environment({"TERM": "dumb"}),
            )
        )
        os.close(theirs)
        try:
            screen = await trio.to_thread.run_sync(read_screen, process, ours)
        finally:
            os.close(ours)
        assert process.returncode == 0
        assert screen.startswith("watching host 1 (me); end with Ctrl-C")
        nursery.cancel_scope.cancel()


async def test_json_is_a_line_of_the_protocol(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, trio.open_nursery() as nursery:
        nursery.start_soon(toggle, served)
        done = await run("events", "--json", "--count", 4, *socket_of(served.path))
        assert done.status == 0
        events = [json.loads(line) for line in done.output.splitlines()]
        assert {event["event"] for event in events} == {"link", "host"}
        nursery.cancel_scope.cancel()


async def test_it_ends_with_the_host_by_a_signal_or_when_nobody_reads(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with open_served(tmp_path) as served:
            toggling = trio.CancelScope()

            async def happen() -> None:
                with toggling:
                    await toggle(served)

            nursery.start_soon(happen)
            async with started("events", *socket_of(served.path)) as process:
                assert process.stdout is not None
                with trio.fail_after(PATIENCE):
                    assert await process.stdout.receive_some()
                    process.send_signal(signal.SIGINT)
                    assert await process.wait() == 130
            async with started("events", *socket_of(served.path)) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                with trio.fail_after(PATIENCE):
                    assert await process.stdout.receive_some()
                    await process.stdout.aclose()
                    assert await process.wait() == 1
                    errors = b"".join([part async for part in process.stderr])
                    assert errors == WATCHING
            last = await nursery.start(listen, served)
            toggling.cancel()
        with trio.fail_after(PATIENCE):
            lost = b"knet-trio: the program has closed the connection\n"
            assert await last() == (3, WATCHING + lost)
        nursery.cancel_scope.cancel()


async def listen(served: Served, task_status: trio.TaskStatus[object]) -> None:
    """Run the command until the test has what it says at its end."""
    ended = trio.Event()
    outcome: list[tuple[int, bytes]] = []

    async def wait() -> tuple[int, bytes]:
        await ended.wait()
        return outcome[0]

    async with started("events", *socket_of(served.path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.receive_some()
        task_status.started(wait)
        async for _ in process.stdout:
            pass
        errors = b"".join([part async for part in process.stderr])
        outcome.append((await process.wait(), errors))
        ended.set()


async def test_a_data_mtu_is_shown_once_it_has_settled(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[ControlEvent](8)
    settled = SettledEvents(receive.receive, 1397)
    host = HostEvent(time=0, host_id=2, host_name="b", reachable=True, reason="")
    for data_mtu in (421, 1397):
        send.send_nowait(DataMtuEvent(time=0, data_mtu=data_mtu))
        send.send_nowait(host)
        assert await settled.receive() == host
    with trio.move_on_after(60) as nothing_new:
        await settled.receive()
    assert nothing_new.cancelled_caught
    for data_mtu in (421, 1200):
        send.send_nowait(DataMtuEvent(time=0, data_mtu=data_mtu))
    assert await settled.receive() == DataMtuEvent(time=0, data_mtu=1200)


def said(event: LinkEvent | HostEvent | DataMtuEvent | ChannelEvent | MissedEvents) -> str:
    return event_text(event).plain.split("  ", 1)[1]


def test_every_event_has_its_words() -> None:
    link = LinkEvent(time=0, host_id=2, host_name="2", link_id=1, connected=True, reason="why")
    assert said(link) == "link 1 to host 2 is up: why"
    host = HostEvent(time=0, host_id=2, host_name="b", reachable=False, reason="")
    assert said(host) == "host 2 (b) is unreachable"
    mtu = DataMtuEvent(time=0, data_mtu=1397)
    assert said(mtu) == "messages of up to 1397 bytes go in one packet"
    channel = ChannelEvent(time=0, channel=3, direction="rx", reason="no room")
    assert said(channel) == "channel 3, writing to its descriptor: no room"
    missed = MissedEvents(time=0, count=7)
    assert said(missed) == "7 events were missed: this reader was too slow"
