"""Messages between programs at the sockets of two hosts."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from knet_trio import BusyError, Channel, InvalidArgumentError, open_handle
from knet_trio.channel_socket import ChannelSocket, ChannelSocketError, serve_channel
from knet_trio.channel_socket import server as server_module
from tests.channel_socket.programs import LONGEST, connected
from tests.cluster import PATIENCE, Pair, open_pair, receive, wait_for

CHANNEL = 2


@attrs.frozen
class Served:
    """Two hosts, of which the first serves a channel at ``path``."""

    pair: Pair
    path: Path
    socket: ChannelSocket


@asynccontextmanager
async def open_served(directory: Path, *, receive_buffer: int = 1024) -> AsyncGenerator[Served]:
    path = directory / "events.data"
    async with (
        open_pair() as pair,
        serve_channel(pair.a, CHANNEL, path, receive_buffer=receive_buffer) as served,
    ):
        yield Served(pair, path, served)


async def test_a_packet_each_way_is_a_message(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        channel = served.pair.b.open_channel(CHANNEL)
        with connected(served.path) as one, connected(served.path) as other:
            await wait_for(lambda: served.socket.statistics().clients == 2)
            sent = [b"a", b"b" * LONGEST, b"c"]
            for data in sent:
                await one.send(data)
            assert await receive(channel, 3) == sent
            # Everybody gets what comes.
            for data in sent:
                await channel.send(data)
            for program in (one, other):
                assert [await program.receive() for _ in sent] == sent
        await wait_for(lambda: served.socket.statistics().clients == 0)
        said = served.socket.statistics()
        assert (said.sent, said.received, said.malformed) == (3, 3, 0)
        assert (said.no_client, said.queue_full) == (0, 0)


async def test_what_is_no_message_is_dropped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_served(tmp_path) as served:
        channel = served.pair.b.open_channel(CHANNEL)
        with connected(served.path) as program:
            await program.send(b"x" * (LONGEST + 1))
            await program.send(b"")
            await program.send(b"a message")
            assert await receive(channel, 1) == [b"a message"]
            # With packets still to be read, an empty one is not the end either.
            await program.send(b"")
            program.sock.shutdown(socket.SHUT_WR)
            await wait_for(lambda: served.socket.statistics().clients == 0)
        assert served.socket.statistics().malformed >= 2
    said = [line for line in caplog.messages if "has sent a packet" in line]
    assert said[0] == (
        f"[channel 2] process {os.getpid()} has sent a packet of more than 65536 bytes, which was"
        " dropped: send 1 to 65536 bytes"
    )
    assert "repeated" in said[1]


async def test_a_program_that_does_not_read_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_served(tmp_path, receive_buffer=100) as served:
        channel = served.pair.b.open_channel(CHANNEL)
        data = [number.to_bytes(4, "big") * 1024 for number in range(400)]
        with connected(served.path) as stuck, connected(served.path) as reader:
            await wait_for(lambda: served.socket.statistics().clients == 2)
            for each in data:
                await channel.send(each)
                assert await reader.receive() == each
            await wait_for(lambda: served.socket.statistics().queue_full > 0)
            # It can still send, and what it reads is a beginning.
            await stuck.send(b"alive")
            assert await receive(channel, 1) == [b"alive"]
            lost = served.socket.statistics().queue_full
            assert [await stuck.receive() for _ in range(400 - lost)] == data[: 400 - lost]
    assert f"a message to process {os.getpid()} was dropped" in caplog.text


async def test_without_a_program_messages_are_counted(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        await served.pair.b.open_channel(CHANNEL).send(b"to nobody")
        await wait_for(lambda: served.socket.statistics().no_client == 1)


async def test_at_the_end_what_was_sent_before_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    async with open_pair() as pair:
        channel = pair.b.open_channel(CHANNEL)
        async with serve_channel(pair.a, CHANNEL, path) as served:
            with connected(path) as program, connected(path):
                await wait_for(lambda: served.statistics().clients == 2)
                for number in range(200):
                    program.sock.send(b"out %d" % number)
                    await channel.send(b"in %d" % number)
                await wait_for(lambda: served.statistics().received == 200)
                # Nothing in between lets the packets be read.
                program.sock.send(b"the last")
                await served.finish()
                assert await receive(channel, 201) == [
                    *(b"out %d" % number for number in range(200)),
                    b"the last",
                ]
                assert [await program.receive() for _ in range(200)] == [
                    b"in %d" % number for number in range(200)
                ]
                assert await program.receive() == b""
    assert not path.exists()


async def test_a_program_that_does_not_read_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LAST_WORDS", 0.05)
    async with open_served(tmp_path) as served:
        channel = served.pair.b.open_channel(CHANNEL)
        with connected(served.path):
            await wait_for(lambda: served.socket.statistics().clients == 1)
            await channel.send_many([b"x" * LONGEST] * 20)
            await wait_for(lambda: served.socket.statistics().received == 20)
            with trio.fail_after(PATIENCE):
                await served.socket.finish()
    assert served.socket.statistics().no_client > 0


async def test_the_mode_and_group_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.data"
    # With another user's rights, only groups that it is in.
    group = os.getgid() if os.geteuid() else 1
    umask = os.umask(0o077)
    try:
        async with (
            open_handle(1) as handle,
            serve_channel(handle, 2, path, mode=0o660, group=group),
        ):
            status = path.stat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o660
            assert status.st_gid == group
            with pytest.raises(InvalidArgumentError, match="group 'nobody-here' does not exist"):
                async with serve_channel(handle, 3, tmp_path / "x", group="nobody-here"):
                    raise AssertionError
    finally:
        os.umask(umask)
    assert not path.exists()


async def test_the_group_that_the_file_has_anyway_needs_no_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, uid: int, gid: int) -> None:
        # As in a service whose filter of system calls leaves it out.
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "events.data"
    group = os.getegid()
    async with open_handle(1) as handle:
        async with serve_channel(handle, 2, path, mode=0o660, group=group):
            assert path.stat().st_gid == group
        with pytest.raises(
            ChannelSocketError,
            match=r"the group 4711: .* add the user of this program to that group",
        ):
            async with serve_channel(handle, 2, path, group=4711):
                raise AssertionError
        assert not path.exists()


async def test_one_that_nobody_listens_at_is_replaced_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(str(path))
        stale.listen()
    async with open_handle(1) as handle:
        async with serve_channel(handle, 2, path):
            in_use = pytest.raises(
                ChannelSocketError, match=f"process {os.getpid()} already serves"
            )
            with connected(path), in_use:
                async with serve_channel(handle, 3, path):
                    raise AssertionError
            with pytest.raises(BusyError, match="channel 2 is open"):
                async with serve_channel(handle, 2, tmp_path / "other.data"):
                    raise AssertionError
        assert os.listdir(tmp_path) == []
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(ChannelSocketError, match="another program already serves"):
                async with serve_channel(handle, 2, path):
                    raise AssertionError
        path.unlink()
        path.write_text("precious")
        with pytest.raises(ChannelSocketError, match="is not a socket"):
            async with serve_channel(handle, 2, path):
                raise AssertionError
        assert path.read_text() == "precious"
        # None of these has kept the channel.
        handle.open_channel(2).close()


async def test_one_program_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 1)
    async with open_handle(1) as handle, serve_channel(handle, 2, tmp_path / "a") as served:
        with connected(tmp_path / "a"):
            await wait_for(lambda: served.statistics().clients == 1)
            with connected(tmp_path / "a") as other:
                assert await other.receive() == b""
        await wait_for(lambda: served.statistics().clients == 0)
    assert "a connection was refused: 1 programs are connected" in caplog.text


async def test_what_finds_no_room_waits_and_is_counted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "LAST_WORDS", 0.05)
    room = trio.Event()

    async def send_many(self: Channel, datas: list[bytes]) -> None:
        await room.wait()

    monkeypatch.setattr(Channel, "send_many", send_many)
    async with open_handle(1) as handle, serve_channel(handle, 2, tmp_path / "a") as served:
        with connected(tmp_path / "a") as program, connected(tmp_path / "a") as other:
            await program.send(b"waits")
            await wait_for(lambda: served.statistics().unsent == 1)
            # Then the system's buffer fills, and the program has to wait.
            with pytest.raises(BlockingIOError):
                while True:
                    program.sock.send(b"x" * LONGEST)
            # Another one is not held up by that.
            assert served.statistics().clients == 2
            other.sock.close()
            await wait_for(lambda: served.statistics().clients == 1)
    assert "[channel 2] up to 1 packets of programs were not sent" in caplog.text
