"""A corosync.conf and its authkey, where no corosync is needed to tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    Mistake,
    _corosync,
    find_own_host,
    load_cluster,
)
from tests.cluster import KEY
from tests.cluster.files import write_key
from tests.cluster.test_key_file import check_no_key

FILE = """\
totem {
  version: 2
  cluster_name: lab
  crypto_cipher: aes256
  crypto_hash: sha256
  interface {
    linknumber: 1
    mcastport: 7000
  }
}
nodelist {
  node {
    nodeid: 1
    name: alpha
    ring0_addr: 10.0.0.1
    ring1_addr: 10.1.0.1
  }
  node {
    nodeid: 2
    name: beta
    ring0_addr: 10.0.0.2
    ring1_addr: 10.1.0.2
  }
}
"""


def load(directory: Path, text: str = FILE, name: str = "corosync.conf") -> Cluster:
    path = directory / name
    path.write_text(text)
    return load_cluster(path)


@pytest.fixture(autouse=True)
def no_key_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_corosync, "DEFAULT_KEY_FILE", tmp_path / "etc" / "authkey")


def test_what_it_says(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    # What a file is does not depend on its name, unless that says TOML.
    cluster = load(tmp_path, "# a comment\n\n" + FILE, "any name")
    assert cluster.is_corosync
    assert cluster.name == "lab"
    assert [link.port for link in cluster.links] == [5405, 7000]
    assert [link.address for link in cluster.get_host("beta").links] == [
        ("10.0.0.2", 5405),
        ("10.1.0.2", 7000),
    ]
    assert cluster.crypto is not None
    assert cluster.crypto.key == KEY[:256]
    assert cluster.privileged
    assert cluster.warnings == ()


def test_links_over_sctp(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    cluster = load(tmp_path, FILE.replace("mcastport: 7000", "knet_transport: sctp"))
    assert [link.transport for link in cluster.links] == ["udp", "sctp"]
    assert cluster.warnings == ()


def test_its_key_is_where_corosync_looks_before_it_is_beside_the_file(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    (tmp_path / "etc").mkdir()
    write_key(tmp_path / "etc" / "authkey", KEY[:128])
    cluster = load(tmp_path)
    assert cluster.crypto is not None
    assert cluster.crypto.key == KEY[:128]


def test_a_host_is_found_by_its_name_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = load(tmp_path, FILE.replace("crypto_cipher: aes256\n  crypto_hash: sha256", ""))

    class Name:
        nodename = "beta.example.com"

    monkeypatch.setattr("os.uname", Name)
    assert find_own_host(cluster).name == "beta"
    Name.nodename = "alpha"
    assert find_own_host(cluster).name == "alpha"


def mistakes(directory: Path, text: str) -> list[Mistake]:
    with pytest.raises(ClusterFileError) as caught:
        load(directory, text)
    check_no_key(caught.value)
    return list(caught.value.mistakes)


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("aes256", "aes265", 4, "did you mean aes256?"),
        ("sha256", "none", 4, "a cipher needs a hash: set crypto_hash"),
        ("version: 2", "version: 1", 2, "'1' is not a version: write 2"),
        ("cluster_name: lab", "transport: udpu", 3, "does not use knet's protocol"),
        ("cluster_name: lab", "link_mode: activ", 3, "did you mean active?"),
        ("cluster_name: lab", "keyfile: /nonexistent", 3, "No such file or directory"),
        ("cluster_name: lab", "key: tooshort", 3, "the key has 8 bytes"),
        ("cluster_name: lab", "knet_mtu: 100", 3, "mtu 100 is not an integer from 576"),
        ("cluster_name: lab", "knet_compression_model: zlip", 3, "zlip"),
        ("cluster_name: lab", "token: 1s", 3, "'1s' is not an integer"),
        ("cluster_name: lab", f"token: {'1' * 5000}", 3, "is not an integer"),
        ("cluster_name: lab", "keyfile:", 3, "the key file . is not a regular file"),
        ("cluster_name: lab", "keyfile: /", 3, "the key file / is not a regular file"),
        ("cluster_name: lab", "keyfile: a\0b", 3, "cannot be read"),
        ("mcastport: 7000", "knet_transport: stcp", 8, "did you mean sctp?"),
        ("linknumber: 1", "linknumber: 8", 7, "'8' is not an integer from 0 to 7"),
        ("linknumber: 1", "linknumber: 2", 6, "no node has ring2_addr"),
        ("nodeid: 2", "nodeid: 1", 19, "the host in line 12 already has the id 1"),
        ("nodeid: 2", "nodeid: 65536", 19, "'65536' is not an integer from 1 to 65535"),
        ("nodeid: 2", "", 18, "nodeid is missing"),
        ("name: beta", "name: alpha", 20, "the host in line 12 already has the name 'alpha'"),
        ("name: beta", "", 18, "with several links each node needs a name"),
        ("10.0.0.2", "10.0.0.1", 21, "is already the address of the host in line 12 on link 0"),
        ("10.0.0.2", "fd00::2", 21, "are not both IPv4 or both IPv6"),
        ("10.0.0.2", "no.such.name.invalid", 21, "is not an address, nor a name"),
        ("10.0.0.2", "a\0b", 21, "is not an address, nor a name"),
        ("10.0.0.2", "0.0.0.0", 21, "is not the address of a single host"),
        ("    ring1_addr: 10.1.0.2\n", "", 18, "links differ from those of the first node"),
    ],
)
def test_a_mistake_is_explained(
    tmp_path: Path, before: str, after: str, line: int, said: str
) -> None:
    if "key" not in after:
        write_key(tmp_path / "authkey")
    assert before in FILE
    found = mistakes(tmp_path, FILE.replace(before, after))
    assert [(mistake.line, said in mistake.text) for mistake in found] == [(line, True)]


def test_a_mistake_has_the_key_that_the_file_has(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    text = FILE.replace("10.1.0.2", "10.1.0.1").replace("nodeid: 2", "nodeid: 1")
    assert [mistake.key for mistake in mistakes(tmp_path, text)] == [
        "nodelist.node[1].nodeid",
        "nodelist.node[1].ring1_addr",
    ]


@pytest.mark.parametrize(
    ("prefix", "mac", "line", "said"),
    [
        ("31", "54:54:01:00:00:00", 27, "hosts 1 and 3 both get 10.66.0.1/31"),
        ("24", "55:54:01:00:00:00", 29, "is a group address"),
    ],
)
def test_what_no_device_of_a_nozzle_can_have_is_warned_of(
    tmp_path: Path, prefix: str, mac: str, line: int, said: str
) -> None:
    write_key(tmp_path / "authkey")
    nozzle = f"nozzle {{\nname: noz0\nipaddr: 10.66.0.0\nipprefix: {prefix}\nmacaddr: {mac}\n}}\n"
    (warning,) = load(tmp_path, FILE.replace("nodeid: 2", "nodeid: 3") + nozzle).warnings
    assert (warning.line, said in warning.text) == (line, True)


def test_all_are_said_at_once(tmp_path: Path) -> None:
    text = FILE.replace("nodeid: 2", "nodeid: two").replace("version: 2", "version: 3")
    assert [mistake.line for mistake in mistakes(tmp_path, text)] == [1, 2, 19]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("totem {\nversion 2\n}\n", 2, "the line is not valid"),
        ("totem {\n}\n}\n", 3, "this brace closes no section"),
        ("totem {\n  interface {\n  }\n", 1, "totem has no closing brace"),
        ("totem {\n} # end\n", 2, "the line must end"),
    ],
)
def test_after_a_mistake_in_the_syntax_there_is_only_that(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.line == line
    assert said in mistake.text


def test_what_corosync_does_not_know_is_warned_of(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey", mode=0o644)
    text = FILE.replace("cluster_name: lab", "cluster_nam: lab").replace("mcastport", "mcastpart")
    cluster = load(tmp_path, text + "nodlist {\n}\n")
    found = [(warning.line, warning.text) for warning in cluster.warnings]
    assert [line for line, _ in found] == [1, 3, 8, 25]
    assert "other users may read" in found[0][1]
    for (_, said), right in zip(found[1:], ("cluster_name", "mcastport", "nodelist"), strict=True):
        assert f"did you mean {right}?" in said


def test_what_stands_in_the_wrong_place_is_warned_of(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    text = FILE.replace("  interface {", "  interfaces {").replace("mcastport: 7000", "anything: 1")
    text = text.replace("nodelist {", "nodelist {\n  name: x")
    text = f"quorum: 1\nlogging {{\n  any: 1\n  logger_subsys {{\n  }}\n}}\n{text}link_mode: rr\n"
    first, *found = load(tmp_path, text).warnings
    assert (first.line, first.key) == (1, "quorum")
    assert [(warning.line, warning.key) for warning in found] == [
        (12, ""),
        (18, "nodelist.name"),
        (32, "link_mode"),
    ]
    assert "'interfaces' is not a section of corosync in totem" in found[0].text
    assert "did you mean interface?" in found[0].text
    assert "there are none" in found[1].text
    assert "this key is outside any section" in found[2].text


def test_its_timers_are_in_milliseconds(tmp_path: Path) -> None:
    write_key(tmp_path / "authkey")
    text = FILE.replace("cluster_name: lab", "token: 900000")
    cluster = load(tmp_path, text)
    assert cluster.links[0].pong_timeout >= 100
    assert cluster.warnings == ()
