from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from knet_trio.control import ControlSocketError
from knet_trio.control.socket_file import MAX_PATH, Peer, open_listener, peer_of


def stale(path: Path) -> None:
    """A socket whose program has ended."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


async def connects(path: Path) -> bool:
    try:
        async with await trio.open_unix_socket(str(path)):
            return True
    except OSError:
        return False


async def test_it_is_for_its_owner_alone_and_goes_with_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sock"
    old = os.umask(0)
    try:
        async with open_listener(path):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert await connects(path)
    finally:
        os.umask(old)
    assert not path.exists()


async def test_it_goes_though_the_working_directory_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_listener(Path("a.sock")):
        assert await connects(tmp_path / "a.sock")
        monkeypatch.chdir("/")
    assert not (tmp_path / "a.sock").exists()


async def test_only_one_directory_is_made(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="No such file") as caught:
        async with open_listener(tmp_path / "a" / "b" / "c.sock"):
            pytest.fail("it was opened")
    assert caught.value.errno == errno.ENOENT


async def test_one_that_nobody_listens_at_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    stale(path)
    assert not await connects(path)
    async with open_listener(path):
        assert await connects(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_one_that_somebody_listens_at_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_listener(path):
        with pytest.raises(ControlSocketError, match=f"process {os.getpid()} already") as caught:
            async with open_listener(path):
                pytest.fail("it was opened")
        assert caught.value.errno == errno.EADDRINUSE
        assert await connects(path)


async def test_one_whose_program_is_busy_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ControlSocketError, match="another program already serves"):
            async with open_listener(path):
                pytest.fail("it was opened")


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    else:
        stale(tmp_path / "other")
        path.symlink_to("other")
    with pytest.raises(ControlSocketError, match="is not a socket"):
        async with open_listener(path):
            pytest.fail("it was opened")
    assert path.exists()


async def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("x" * MAX_PATH)
    with pytest.raises(ControlSocketError, match="too many for a socket") as caught:
        async with open_listener(path):
            pytest.fail("it was opened")
    assert caught.value.errno == errno.ENAMETOOLONG


async def test_of_many_that_start_at_once_over_an_old_one_one_serves(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    stale(path)
    served: list[int] = []
    refused: list[int] = []
    over = trio.Event()

    async def start(number: int) -> None:
        try:
            async with open_listener(path):
                served.append(number)
                if len(served) + len(refused) == 20:
                    over.set()
                await over.wait()
                assert await connects(path)
        except ControlSocketError:
            refused.append(number)
            if len(served) + len(refused) == 20:
                over.set()

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(start, number)
    assert len(served) == 1
    assert not path.exists()


async def test_who_holds_the_lock_of_the_directory_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "a.sock"
    holder = os.open(tmp_path, os.O_RDONLY)

    async def let_go(task_status: trio.TaskStatus[None]) -> None:
        fcntl.flock(holder, fcntl.LOCK_EX)
        task_status.started()
        await trio.sleep(3)
        fcntl.flock(holder, fcntl.LOCK_UN)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(let_go)
            async with open_listener(path):
                assert trio.current_time() >= 3
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(ControlSocketError, match="has been locked for 5 s"):
            async with open_listener(path):
                pytest.fail("it was opened")
    finally:
        os.close(holder)


async def test_another_program_s_socket_at_its_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_listener(path):
        path.unlink()
        stale(path)
    assert path.exists()


async def test_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == Peer(os.getpid(), os.geteuid(), os.getegid())
