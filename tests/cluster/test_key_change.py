"""The file beside the key file, and what a host makes of both when it starts."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from knet_trio.cluster import (
    ClusterFileError,
    CryptoNames,
    KeyChange,
    KeyChangeFiles,
    KeyFileError,
    ReloadError,
    get_cluster,
    load_cluster,
    reload,
)
from tests.cluster import KEY
from tests.cluster.files import LAB, write_file
from tests.cluster.meshes import open_mesh

OLD, NEW = KEY[:256], KEY[:256][::-1]
CHANGE = KeyChange(change_id="c0ffee", began_by=2, old=OLD, new=NEW)
COROSYNC = """\
totem {
  version: 2
  crypto_cipher: aes256
  crypto_hash: sha256
}
nodelist {
  node {
    nodeid: 1
    ring0_addr: 10.0.0.1
  }
  node {
    nodeid: 2
    ring0_addr: 10.0.0.2
  }
}
"""


@pytest.fixture
def files(tmp_path: Path) -> KeyChangeFiles:
    write_file(tmp_path, LAB)
    return KeyChangeFiles(tmp_path / "lab.key")


def test_what_is_written_is_read(files: KeyChangeFiles) -> None:
    assert files.read_change() is None
    files.write_change(CHANGE)
    assert files.read_change() == CHANGE
    assert files.change_file.stat().st_mode & 0o777 == 0o600
    files.write_key(NEW)
    assert files.read_key() == NEW
    assert files.key_file.stat().st_mode & 0o777 == 0o400
    assert files.key_file.read_bytes() == NEW
    files.remove_change()
    assert files.read_change() is None
    assert {path.name for path in files.key_file.parent.iterdir()} == {"lab.key", "lab.toml"}
    # Once more: it may have been killed before it said so.
    files.remove_change()


def test_how_each_key_is_used_is_kept_too(files: KeyChangeFiles) -> None:
    names = CryptoNames(), CryptoNames("aes256-gcm", "none", "aead")
    change = attrs.evolve(CHANGE, old_names=names[0], new_names=names[1])
    files.write_change(change)
    assert files.read_change() == change
    accepted = change.make_accepted(names[0].make(change.old))
    assert accepted == names[1].make(change.new)
    # Whoever knows the key alone, as an earlier release, must not do a half of it.
    content = files.change_file.read_text()
    assert '"version": 2' in content
    for wrong in (
        content.replace('"version": 2', '"version": 1'),
        content.replace('"aead"', '"openssl"'),
        content.replace('"none"', "7"),
        content.replace('"cipher"', '"chiper"'),
    ):
        files.change_file.write_text(wrong)
        with pytest.raises(KeyFileError, match="is damaged"):
            files.read_change()


def test_what_a_killed_process_left_is_in_nobodys_way(files: KeyChangeFiles) -> None:
    for name in ("lab.key.new", "lab.key.rekey.new"):
        (files.key_file.parent / name).write_bytes(b"half of it")
    files.write_change(CHANGE)
    files.write_key(NEW)
    (files.key_file.parent / "lab.key.new").write_bytes(b"half of it")
    files.remove_change()
    assert {path.name for path in files.key_file.parent.iterdir()} == {"lab.key", "lab.toml"}


def test_a_link_leads_to_the_file_that_is_replaced(files: KeyChangeFiles, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere.key"
    link.symlink_to(files.key_file)
    KeyChangeFiles(link).write_key(NEW)
    assert link.is_symlink()
    assert files.key_file.read_bytes() == NEW


def test_the_owner_stays(files: KeyChangeFiles) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(files.key_file, 4321, 1234)
    files.write_key(NEW)
    status = files.key_file.stat()
    assert (status.st_uid, status.st_gid) == (4321, 1234)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"version":1,"change":"","began_by":1,"old":"","new":""}',
        b'{"version":1,"change":"a","began_by":1,"old":"c2VjcmV0","new":"c2VjcmV0"}',
    ],
)
def test_a_damaged_one_is_said_and_not_shown(files: KeyChangeFiles, content: bytes) -> None:
    files.change_file.write_bytes(content)
    files.change_file.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"lab\.key\.rekey.* is damaged: copy the key file"):
        files.read_change()
    with pytest.raises(ClusterFileError, match="damaged") as caught:
        load_cluster(files.key_file.with_name("lab.toml"))
    assert "c2VjcmV0" not in str(caught.value)


def test_one_that_others_may_read_is_refused(files: KeyChangeFiles) -> None:
    files.write_change(CHANGE)
    files.change_file.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        files.read_change()


def test_two_hosts_with_one_key_file_are_told(
    files: KeyChangeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replace_late(path: Path, target: Path) -> Path:
        # The other process has removed what it took for left over.
        path.unlink()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_late)
    with pytest.raises(KeyFileError, match=r"No such file or directory; .* give each its own"):
        files.write_change(CHANGE)
    assert files.read_change() is None


def test_where_nothing_can_be_written_all_is_as_it_was(files: KeyChangeFiles) -> None:
    (files.key_file.parent / "lab.key.new").mkdir()
    (files.key_file.parent / "lab.key.rekey.new").mkdir()
    with pytest.raises(KeyFileError, match=r"lab\.key cannot be written: Is a directory"):
        files.write_key(NEW)
    with pytest.raises(KeyFileError, match=r"lab\.key\.rekey cannot be written"):
        files.write_change(CHANGE)
    assert files.read_key() == OLD


@pytest.mark.parametrize("kind", ["toml", "corosync"])
@pytest.mark.parametrize(("key", "other"), [(OLD, NEW), (NEW, OLD)])
def test_a_host_that_starts_has_both_keys(
    tmp_path: Path, kind: str, key: bytes, other: bytes
) -> None:
    if kind == "toml":
        path, key_file = write_file(tmp_path, LAB), tmp_path / "lab.key"
    else:
        path, key_file = tmp_path / "corosync.conf", tmp_path / "authkey"
        path.write_text(COROSYNC.replace("version: 2", f"version: 2\n  keyfile: {key_file}"))
        key_file.write_bytes(key)
        key_file.chmod(0o400)
    files = KeyChangeFiles(key_file)
    files.write_key(key)
    files.write_change(CHANGE)
    cluster = load_cluster(path)
    assert (cluster.key_file, cluster.key_change) == (key_file, CHANGE)
    assert cluster.crypto is not None
    assert cluster.accept_crypto is not None
    assert (cluster.crypto.key, cluster.accept_crypto.key) == (key, other)
    assert cluster.accept_crypto.cipher == cluster.crypto.cipher
    assert str(key)[2:20] not in repr(cluster)


def test_a_change_of_other_keys_is_none(files: KeyChangeFiles) -> None:
    files.write_change(CHANGE)
    files.write_key(bytes(200))
    cluster = load_cluster(files.key_file.with_name("lab.toml"))
    assert (cluster.key_change, cluster.accept_crypto) == (None, None)


def test_there_is_no_room_for_a_third_key(files: KeyChangeFiles) -> None:
    files.write_change(CHANGE)
    text = LAB.replace('"lab.key"\n', '"lab.key"\naccept_crypto = { key_file = "lab.key" }\n')
    path = write_file(files.key_file.parent, text)
    with pytest.raises(ClusterFileError, match="a third one is not possible: remove accept_crypto"):
        load_cluster(path)


async def test_a_file_that_was_read_before_a_step_is_not_gone_back_to(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_mesh(tmp_path) as mesh:
        before = mesh.load()
        files = KeyChangeFiles(tmp_path / "lab.key")
        files.write_change(CHANGE)
        with pytest.raises(ReloadError, match="since the file was read: reload again"):
            await reload(mesh.alpha, tmp_path / "lab.toml")
        assert get_cluster(mesh.alpha) == before
