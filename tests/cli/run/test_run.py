"""Two hosts of one file as services: what their manager is told, and what programs get."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from knet_trio.control import connect_control
from tests.channel_socket.programs import LocalProgram, connected
from tests.cli.run.supervising import GAMMA, Lab, Service, make_lab, running

ALL_UP = "1 of 1 hosts reachable, 1 of 1 links up"


async def test_a_life(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    async with (
        running(lab.path, "alpha", WATCHDOG_USEC="20000000") as alpha,
        running(lab.path, "beta", abstract=True) as beta,
    ):
        for service in (alpha, beta):
            await service.wait_status(ALL_UP)
        with connected(lab.channel(1)) as here, connected(lab.channel(2)) as there:
            await exchange(here, there)
            async with connect_control(lab.control(1)) as client:
                assert client.hello.host_id == 1
                assert "reload" in client.hello.methods
            # A host is added while messages go to and fro.
            lab.write(lab.text + GAMMA)
            async with flow(here, there), flow(there, here):
                for service, number in ((alpha, 1), (beta, 2)):
                    await take_over(service)
                    await service.line(f"reloaded: hosts.3: added, gamma, .*127.0.0.{number}")
            await alpha.wait_status("1 of 2 hosts reachable, 1 of 2 links up")
            await break_the_file(lab, alpha)
            # What was handed over before the end arrives.
            for number in range(100):
                here.sock.send(b"last %d" % number)
            alpha.signal(signal.SIGTERM)
            assert [await there.receive() for _ in range(100)] == [
                b"last %d" % number for number in range(100)
            ]
            assert await here.receive() == b""
        while "STOPPING" not in await alpha.next_notification():
            continue
        assert await alpha.status() == 0
        beta.signal(signal.SIGINT)
        assert await beta.status() == 0
    assert set(os.listdir(tmp_path)) == {"lab.key", "lab.toml", "notify-alpha"}
    assert "Traceback" not in alpha.said + beta.said


async def exchange(one: LocalProgram, other: LocalProgram) -> None:
    """Send a packet each way."""
    for sender, receiver in ((one, other), (other, one)):
        await sender.send(b"hello")
        assert await receiver.receive() == b"hello"


@asynccontextmanager
async def flow(sender: LocalProgram, receiver: LocalProgram) -> AsyncGenerator[None]:
    """Send messages in the block, a hundred at least, of which none gets lost."""
    sent = 0
    received: list[int] = []
    over = trio.Event()

    async def send() -> None:
        nonlocal sent
        while sent < 100 or not over.is_set():
            await sender.send(b"%d" % sent)
            sent += 1
            await trio.sleep(0.002)
        await sender.send(b"over")

    async def receive() -> None:
        while (data := await receiver.receive()) != b"over":
            received.append(int(data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
        yield
        over.set()
    assert received == list(range(sent))


async def take_over(service: Service) -> None:
    """Have the file read again, and see that the manager is told as it should be."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    service.signal(signal.SIGHUP)
    while "RELOADING" not in (sent := await service.next_notification()):
        continue
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(sent["MONOTONIC_USEC"]) <= now
    while (await service.next_notification()).get("READY") != "1":
        continue


async def break_the_file(lab: Lab, service: Service) -> None:
    """Everything goes on with a file that is wrong, and what is wrong with it is said."""
    good = lab.text
    lab.write(good.replace("pong_count = 1", "pong_cuont = 1\nport = 'x'"))
    await take_over(service)
    await service.line(r"error .*lab.toml:8:1: cluster.links.pong_cuont: .* mean pong_count")
    await service.line(r"error .*lab.toml:9:")
    await service.line("error .*this host goes on as before")
    lab.write(good.replace("id = 1\n", "id = 9\n"))
    await take_over(service)
    await service.line("error .*the file has no host 1, this host: add it")
    lab.write(good)
    service.signal(signal.SIGHUP)
    await service.line("reloaded: nothing has changed")


async def test_the_loop_gives_signs_of_life(tmp_path: Path) -> None:
    """They come out of the loop, so a process that does nothing gives none."""
    lab = make_lab(tmp_path)
    async with running(lab.path, "alpha", "--json", WATCHDOG_USEC="100000") as alpha:
        for _ in range(5):
            while await alpha.next_assignments() != {"WATCHDOG": "1"}:
                continue
        # Somebody else's process, as when a program is started by a service.
        assert "WATCHDOG_PID" not in os.environ
        alpha.signal(signal.SIGTERM)
        assert await alpha.status() == 0
    records = [json.loads(line) for line in alpha.said.splitlines()]
    assert all(record.keys() == {"time", "level", "logger", "message"} for record in records)
    assert "leaving: SIGTERM" in [record["message"] for record in records]
    assert {record["logger"] for record in records} > {"knet_trio.run", "knet_trio.handle"}


async def test_a_second_signal_has_it_leave_at_once(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    async with (
        running(lab.path, "alpha") as alpha,
        running(lab.path, "beta") as beta,
    ):
        for service in (alpha, beta):
            await service.wait_status(ALL_UP)
        one, other = connected(lab.channel(2)), connected(lab.channel(2))
        with connected(lab.channel(1)) as here, one as reader, other:
            # More than a program that does not read has room for: so it would take a second.
            for _ in range(20):
                await here.send(b"x" * 65536)
                await reader.receive()
            beta.signal(signal.SIGSTOP)
            # Which of the two comes first is up to the system.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
                beta.signal(number)
            await beta.line("leaving: SIG(INT|TERM)")
            second = (await beta.line("leaving at once: (SIGINT|SIGTERM) again"))[1]
            assert await beta.status() == 128 + signal.Signals[second]
