"""Files with a key."""

from __future__ import annotations

import os
import re
import stat
import traceback
from pathlib import Path

import pytest

from knet_trio.cluster import (
    ClusterFileError,
    KeyFileError,
    load_cluster,
    make_fingerprint,
    read_key_file,
    write_key_file,
)
from tests.cluster import KEY
from tests.cluster.files import LAB, write_file, write_key


@pytest.mark.parametrize("size", [128, 4096])
def test_a_key_is_read_as_it_is(tmp_path: Path, size: int) -> None:
    key = os.urandom(size)
    assert read_key_file(write_key(tmp_path / "key", key)) == key


@pytest.mark.parametrize("size", [0, 127, 4097])
def test_another_size_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(KeyFileError, match=f"has {size} bytes: a key has 128 to 4096"):
        read_key_file(write_key(tmp_path / "key", bytes(size)))


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o402, 0o777, 0o604])
def test_one_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_key(tmp_path / "key", mode=mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 400"):
        read_key_file(path)
    assert read_key_file(path, secret=False) == KEY[:256]


def test_systemd_guards_its_credentials_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_key(tmp_path / "key", mode=0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_key_file(path) == KEY[:256]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "elsewhere"))
    with pytest.raises(KeyFileError):
        read_key_file(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path, said in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
    ):
        with pytest.raises(KeyFileError, match=said):
            read_key_file(path)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_key_is_written_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "key"
    before = os.umask(umask)
    try:
        write_key_file(path, KEY[:256])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert path.read_bytes() == KEY[:256]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for each in (path, tmp_path / "link"):
        with pytest.raises(KeyFileError, match="exists and is not overwritten"):
            write_key_file(each, KEY[:256])
    assert path.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (OSError(28, "No space left on device"), "KeyFileError: .*: No space left on device"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
    ids=["full", "Ctrl-C"],
)
def test_half_a_key_is_not_left_behind(tmp_path: Path, trouble: BaseException, said: str) -> None:
    path = tmp_path / "key"

    def fail(_: int) -> None:
        raise trouble

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises((KeyFileError, KeyboardInterrupt)) as caught:
            write_key_file(path, KEY[:256])
    assert re.match(said, f"{caught.type.__name__}: {caught.value}")
    assert not path.exists()


def test_a_fingerprint_is_of_the_key_and_the_salt() -> None:
    one = make_fingerprint(KEY, b"salt")
    assert one == make_fingerprint(KEY, b"salt")
    assert len({one, make_fingerprint(KEY, b"pepper"), make_fingerprint(KEY[1:], b"salt")}) == 3
    assert [len(part) for part in one.split()] == [4] * 6


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("id = 2", "id = 1"),
        ('name = "lab"', "cipher = 'rot13'"),
        ('name = "lab"', "compress = { model = 'paper' }"),
        ('name = "lab"', "accept_crypto = { key_file = 'none' }"),
    ],
)
def test_an_error_of_a_file_does_not_lead_to_its_key(
    tmp_path: Path, before: str, after: str
) -> None:
    path = write_file(tmp_path, LAB.replace(before, after))
    with pytest.raises(ClusterFileError) as caught:
        load_cluster(path)
    check_no_key(caught.value)


def test_nor_does_one_of_a_key_file(tmp_path: Path) -> None:
    for index, (size, mode) in enumerate([(64, 0o400), (5000, 0o400), (256, 0o644)]):
        path = write_key(tmp_path / f"key{index}", (KEY * 5)[:size], mode)
        with pytest.raises(KeyFileError) as caught:
            read_key_file(path)
        check_no_key(caught.value)


def test_nor_does_the_text_of_a_cluster(tmp_path: Path) -> None:
    cluster = load_cluster(write_file(tmp_path, LAB))
    assert cluster.crypto is not None
    assert repr(KEY[:16])[2:-1] not in repr(cluster) + str(cluster)


def check_no_key(error: BaseException) -> None:
    """Fail if a traceback with its variables shows the key."""
    traced = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in traced.stack if "/knet_trio/" in frame.filename]
    assert ours
    for frame in ours:
        for value in (frame.locals or {}).values():
            assert repr(KEY[:16])[2:-1] not in value
            assert "CryptoConfig" not in value
