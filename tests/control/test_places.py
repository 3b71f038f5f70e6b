from __future__ import annotations

import socket
from pathlib import Path

from knet_trio.control import control_directories, find_control_sockets


def test_the_order_of_directories() -> None:
    environment = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/5"}
    all_of_them = ["/run/a", "/run/b", "/run/user/5/knet-trio", "/run/knet-trio"]
    assert control_directories(environment, is_root=True) == [Path(path) for path in all_of_them]
    assert control_directories({}, is_root=False) == []
    assert control_directories({"XDG_RUNTIME_DIR": ""}, is_root=True) == [Path("/run/knet-trio")]


def listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def test_the_first_directory_with_somebody_in_it_counts(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    for directory in (first, second, third):
        directory.mkdir()
    directories = [tmp_path / "missing", first, second, third]
    listen(first / "dead.sock").close()
    (first / "file.sock").write_text("")
    (first / ("x" * 150 + ".sock")).write_text("")
    assert find_control_sockets(directories) == []
    with (
        listen(second / "b.sock"),
        listen(second / "a.sock"),
        listen(second / "other"),
        listen(third / "c.sock"),
    ):
        assert find_control_sockets(directories) == [second / "a.sock", second / "b.sock"]
