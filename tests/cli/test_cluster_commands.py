"""``check`` and ``keygen`` as a user runs them."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest

from knet_trio.cli.check import ONLY_KNET_TRIO
from knet_trio.cluster import CryptoNames, KeyChange, KeyChangeFiles
from tests.cli.test_command import run
from tests.cluster.files import LAB, write_file

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
WRONG = LAB.replace('name = "lab"', 'cypher = "aes256"').replace("id = 2", "id = 1")


def result(done: subprocess.CompletedProcess[str], status: int = 0) -> dict[str, Any]:
    assert done.returncode == status, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_check_says_what_each_host_does(tmp_path: Path) -> None:
    text = LAB.replace('"10.1.0.2"', '"dynamic"') + "[cluster.link.1]\ntransport = 'sctp'\n"
    path = write_file(tmp_path, text)
    done = run("check", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "'lab': 2 hosts, with aes256 and sha256\n"
        "alpha (id 1)\n"
        "  link 0 from 10.0.0.1:5405 to beta at 10.0.0.2:5405\n"
        "  link 1 from 10.1.0.1:5406 to beta at an address that is learnt over SCTP\n"
        "beta (id 2)\n"
        "  link 0 from 10.0.0.2:5405 to alpha at 10.0.0.1:5405\n"
        "  link 1 from 0.0.0.0:5406 to alpha at 10.1.0.1:5406 over SCTP\n"
    )


def test_check_says_who_cannot_join_with_model_aead(tmp_path: Path) -> None:
    path = write_file(tmp_path, LAB.replace('name = "lab"', 'model = "aead"'))
    done = run("check", str(path))
    assert done.stdout.splitlines()[:2] == [
        "2 hosts, with model aead and aes256-gcm",
        ONLY_KNET_TRIO,
    ]
    said = result(run("check", "--json", str(path)))
    names = (said["cipher"], said["hash"], said["model"], said["libknet_can_join"])
    assert names == ("aes256-gcm", "none", "aead", False)


def test_check_says_what_comes_from_a_change_of_the_key(tmp_path: Path) -> None:
    path = write_file(tmp_path, LAB)
    assert result(run("check", "--json", str(path)))["key_change"] is None
    key = (tmp_path / "lab.key").read_bytes()
    files = KeyChangeFiles(tmp_path / "lab.key")
    change = KeyChange(change_id="c0ffee", began_by=2, old=key, new=key[::-1])
    files.write_change(change)
    done = run("check", str(path))
    progress = f"a change of the key is in progress ({files.change_file})"
    assert done.stdout.splitlines()[:2] == [
        "'lab': 2 hosts, with aes256 and sha256",
        f"{progress}; knet-trio rekey continues it",
    ]
    aead = CryptoNames("aes256-gcm", "none", "aead")
    files.write_change(attrs.evolve(change, old_names=CryptoNames(), new_names=aead))
    files.write_key(change.new)
    done = run("check", str(path))
    assert done.stdout.splitlines()[:3] == [
        "'lab': 2 hosts, with model aead and aes256-gcm",
        f"{progress}; cipher, hash and model are from that file; knet-trio rekey continues it",
        ONLY_KNET_TRIO,
    ]
    said = result(run("check", "--json", str(path)))
    assert said["key_change"] == {
        "file": str(files.change_file),
        "change_id": "c0ffee",
        "began_by": 2,
        "has_crypto": True,
    }


def test_check_of_one_host_as_json(tmp_path: Path) -> None:
    text = LAB.replace("10.0.0.2", "127.0.0.1").replace("= 1.0", "= 0.01")
    path = write_file(tmp_path, text)
    said = result(run("check", "--json", "--host", "2", str(path)))
    assert (said["ok"], said["name"], said["encrypted"]) == (True, "lab", True)
    assert said["this_host"] == 2
    assert said["mistakes"] == []
    assert [warning["line"] for warning in said["warnings"]] == [4, 4]
    ways = ((0, "127.0.0.1:5405", "10.0.0.1:5405"), (1, "10.1.0.2:5406", "10.1.0.1:5406"))
    links = [
        {"host": 1, "link": link, "src": src, "dst": dst, "transport": "udp"}
        for link, src, dst in ways
    ]
    assert said["hosts"] == [{"id": 2, "name": "beta", "links": links}]


def test_check_of_many_hosts_is_short(tmp_path: Path) -> None:
    hosts = [f"[[hosts]]\nid = {n}\nlinks = ['10.0.0.{n}', 'dynamic']\n" for n in range(1, 31)]
    path = write_file(tmp_path, LAB.partition("[[hosts]]")[0] + "".join(hosts))
    done = run("check", str(path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 3 * 30 + 1
    assert lines[1:4] == [
        "1 (id 1)",
        "  link 0 at 10.0.0.1:5405",
        "  link 1 at an address that is learnt",
    ]
    # Of two that are both dynamic on link 1, only link 0 is left.
    assert len(run("check", str(path), "--host", "30").stdout.splitlines()) == 1 + 1 + 29


def test_check_says_all_that_is_wrong(tmp_path: Path) -> None:
    path = write_file(tmp_path, WRONG)
    done = run("check", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{path}:2:1: cluster.cypher: there is no such key: did you mean cipher?\n"
        f"{path}:14:6: hosts[1].id: the host in line 9 already has the id 1: give each host its"
        " own\n"
    )
    said = result(run("check", "--json", str(path)), 1)
    assert said["ok"] is False
    assert [(mistake["line"], mistake["key"]) for mistake in said["mistakes"]] == [
        (2, "cluster.cypher"),
        (14, "hosts[1].id"),
    ]
    assert result(run("check", "--json", str(tmp_path / "none")), 1)["mistakes"][0]["line"] is None


def test_check_of_a_host_that_is_not_there(tmp_path: Path) -> None:
    done = run("check", "--host", "gamma", str(write_file(tmp_path, LAB)))
    assert done.returncode == 2
    assert "the file has no host 'gamma'; its hosts are alpha (1), beta (2)" in done.stderr


def test_two_people_compare_a_key(tmp_path: Path) -> None:
    path = tmp_path / "lab.key"
    done = run("keygen", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert path.stat().st_size == 256
    salt = re.findall(r"^salt +([0-9a-f]{8})$", done.stdout, re.MULTILINE)[0]
    fingerprint = re.findall(r"^fingerprint +([0-9a-f ]+)$", done.stdout, re.MULTILINE)[0]
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o400)
    said = result(run("keygen", "--json", "--fingerprint", "--salt", salt, str(copy)))
    assert said == {"file": str(copy), "size": 256, "salt": salt, "fingerprint": fingerprint}
    # Another salt, another fingerprint.
    other = result(run("keygen", "--json", "--fingerprint", str(copy)))
    assert other["salt"] != salt
    assert other["fingerprint"] != fingerprint
    assert path.read_bytes() == copy.read_bytes()


def test_keygen_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "lab.key"
    path.write_text("precious")
    done = run("keygen", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "exists and is not overwritten" in done.stderr
    assert path.read_text() == "precious"


def test_keygen_of_another_size(tmp_path: Path) -> None:
    assert result(run("keygen", "--json", "--size", "4096", str(tmp_path / "key")))["size"] == 4096


@pytest.mark.parametrize(
    "arguments",
    [
        ("keygen",),
        ("keygen", "--size", "127", "key"),
        ("keygen", "--salt", "xyz", "key"),
        ("keygen", "--salt", "", "key"),
        ("check",),
        ("check", "--hots", "alpha", "file"),
    ],
    ids=" ".join,
)
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_keygen_says_what_stands_in_the_way(tmp_path: Path) -> None:
    for arguments, said in (
        ((str(tmp_path / "none" / "key"),), "No such file or directory"),
        (("--fingerprint", str(tmp_path / "key")), "No such file or directory"),
    ):
        done = run("keygen", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "keygen", "run"])
def test_the_documentation_has_every_option(command: str) -> None:
    section = re.findall(rf"^## {command}$.*?(?=^## |\Z)", DOCUMENT.read_text(), re.S | re.M)
    (text,) = section
    help = run(command, "-h").stdout
    options = set(re.findall(r"^  (--[\w-]+)", help, re.MULTILINE))
    assert options == set(re.findall(r"^\| `(--[\w-]+)", text, re.MULTILINE))
    assert "Example:\n    $ knet-trio" in help
    assert "Exit status:" in help
