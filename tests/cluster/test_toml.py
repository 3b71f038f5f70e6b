"""Cluster files in TOML, right ones and wrong ones."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from knet_trio import AclEntry, LinkPolicy
from knet_trio.cluster import ClusterFileError, Mistake, load_cluster
from knet_trio.cluster._plan import plan_hosts
from tests.cluster import KEY
from tests.cluster.files import LAB, write_file, write_key

TAP = "[tap]\nname = 'x'\nchannel = 1\n"
SPECIFIED = """\
[cluster]
name = "lab"
key_file = "lab.key"           # beside this file; refused if others may read it
cipher = "aes256"              # hash = "sha256", model = "openssl"
policy = "round_robin"         # active, round_robin
compress = { model = "lz4", threshold = 200 }
port = 5505                    # of link 0; the others follow (port + link id)
service_channel = 31
[cluster.links]                # the same for all links; [cluster.link.1] for one of them
ping_interval = 1.0
pong_timeout = 3
pong_count = 7
[cluster.link.1]
priority = 9
pong_count = 3

[[hosts]]
id = 1
name = "alpha"
links = ["10.0.0.1", "10.1.0.1", "", "[fd00::1]:7000"]
[[hosts]]
id = 2
name = "beta"
links = ["10.0.0.2:6000", "dynamic", "10.3.0.2", "fd00::2"]
allow = ["10.1.0.0/16", "!10.2.0.5", "10.2.0.1-10.2.0.9"]

[tap]
name = "knet0"
channel = 1
address = "10.99.0.{id}/24"
mac = "02:00:00:00:{high:02x}:{low:02x}"
[[channels]]
channel = 2
socket = "/run/knet-trio/lab.data"
[control]
socket = "/run/knet-trio/lab.sock"
[metrics]
listen = "127.0.0.1:9905"
"""


def test_what_a_file_says(tmp_path: Path) -> None:
    cluster = load_cluster(write_file(tmp_path, SPECIFIED))
    assert cluster.name == "lab"
    assert cluster.crypto is not None
    assert (cluster.crypto.key, cluster.crypto.cipher) == (KEY[:256], "aes256")
    assert cluster.policy is LinkPolicy.ROUND_ROBIN
    assert cluster.compress is not None
    assert cluster.compress.threshold == 200
    assert cluster.service_channel == 31
    # The link's own settings go over those of all links.
    assert [
        (link.link_id, link.port, link.priority, link.pong_count) for link in cluster.links
    ] == [
        (0, 5505, 0, 7),
        (1, 5506, 9, 3),
        (2, 5507, 0, 7),
        (3, 5508, 0, 7),
    ]
    assert {link.pong_timeout for link in cluster.links} == {3.0}
    alpha, beta = cluster.hosts
    assert [link.address for link in alpha.links] == [
        ("10.0.0.1", 5505),
        ("10.1.0.1", 5506),
        ("fd00::1", 7000),
    ]
    assert [(link.link_id, link.address) for link in beta.links] == [
        (0, ("10.0.0.2", 6000)),
        (1, None),
        (2, ("10.3.0.2", 5507)),
        (3, ("fd00::2", 5508)),
    ]
    assert beta.allow == (
        AclEntry.network("10.1.0.0/16"),
        AclEntry.address("10.2.0.5", accept=False),
        AclEntry.range("10.2.0.1", "10.2.0.9"),
    )
    assert cluster.tap is not None
    assert cluster.tap.get_address(300) == "10.99.0.300/24"
    assert cluster.tap.get_mac(300) == "02:00:00:00:01:2c"
    assert [(entry.channel, str(entry.socket)) for entry in cluster.channels] == [
        (2, "/run/knet-trio/lab.data")
    ]
    assert cluster.control.socket == Path("/run/knet-trio/lab.sock")
    assert cluster.metrics is not None
    assert cluster.metrics.listen == ("127.0.0.1", 9905)
    assert cluster.warnings == ()
    assert cluster.get_host("beta") is cluster.get_host(2) is cluster.get_host("2") is beta


def test_what_a_host_does_with_it(tmp_path: Path) -> None:
    cluster = load_cluster(write_file(tmp_path, SPECIFIED))
    (plan,) = plan_hosts(cluster, cluster.get_host("alpha")).values()
    assert plan.name == "beta"
    ways = {link_id: (link.src, link.dst) for link_id, link in plan.links.items()}
    assert ways == {
        0: (("10.0.0.1", 5505), ("10.0.0.2", 6000)),
        1: (("10.1.0.1", 5506), None),
        3: (("fd00::1", 7000), ("fd00::2", 5508)),
    }
    assert plan.links[1].allow == cluster.get_host("beta").allow
    (back,) = plan_hosts(cluster, cluster.get_host("beta")).values()
    # It sends from any of its addresses where the other side learns them.
    assert (back.links[1].src, back.links[1].dst) == (("0.0.0.0", 5506), ("10.1.0.1", 5506))


def test_an_address_is_learnt_from_everywhere_if_nothing_else_is_said(tmp_path: Path) -> None:
    text = LAB.replace('"10.1.0.2"', '"dynamic"')
    cluster = load_cluster(write_file(tmp_path, text))
    (plan,) = plan_hosts(cluster, cluster.get_host("alpha")).values()
    (entry,) = plan.links[1].allow
    assert entry.matches(ip_address("192.0.2.1"))


def test_the_least_that_a_file_has(tmp_path: Path) -> None:
    cluster = load_cluster(write_file(tmp_path, '[[hosts]]\nid = 7\nlinks = ["10.0.0.1"]\n'))
    assert cluster.crypto is None
    assert [(host.host_id, host.name) for host in cluster.hosts] == [(7, "7")]
    assert cluster.links[0].port == 5405


def mistakes(tmp_path: Path, text: str) -> list[Mistake]:
    with pytest.raises(ClusterFileError) as caught:
        load_cluster(write_file(tmp_path, text))
    assert caught.value.mistakes
    return list(caught.value.mistakes)


@pytest.mark.parametrize("name", ["al\\npha", "\\u001b[31malpha", "al\\u202epha"])
def test_a_name_steers_no_terminal(tmp_path: Path, name: str) -> None:
    text = f'[cluster]\nname = "{name}"\n[[hosts]]\nid = 1\nname = "{name}"\nlinks = ["10.0.0.1"]\n'
    found = mistakes(tmp_path, text)
    assert [(m.line, m.column, m.key) for m in found] == [
        (2, 8, "cluster.name"),
        (5, 8, "hosts[0].name"),
    ]
    for mistake in found:
        assert "cannot be printed" in mistake.text
        assert mistake.text.isprintable()


def test_all_mistakes_are_found_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
[cluster]
nmae = "lab"
key_file = "other.key"
cipher = "aes265"
policy = "pasive"
port = "5405"
compress = { model = "lz5" }
[cluster.links]
ping_intervall = 1.0
pong_timeout = -1
[cluster.link.9]
priority = 1
[[hosts]]
id = 1
name = "alpha"
links = ["10.0.0.1", "dynamik", "10.1.0.256", 7]
[[hosts]]
id = 1
links = ["10.0.0.1", "fd00::1"]
[[hosts]]
name = "alpha"
links = "10.0.0.3"
adresses = []
[[channels]]
channel = 32
socket = "/run/x"
[tapp]
name = "knet0"
"""
    found = [(m.line, m.column, m.key) for m in mistakes(tmp_path, text)]
    assert found == [
        (2, 1, "cluster.nmae"),
        (3, 12, "cluster.key_file"),
        (4, 10, "cluster.cipher"),
        (5, 10, "cluster.policy"),
        (6, 8, "cluster.port"),
        (7, 22, "cluster.compress.model"),
        (9, 1, "cluster.links.ping_intervall"),
        (10, 16, "cluster.links.pong_timeout"),
        (11, 1, "cluster.link.9"),
        (16, 22, "hosts[0].links[1]"),
        (16, 33, "hosts[0].links[2]"),
        (16, 47, "hosts[0].links[3]"),
        (18, 6, "hosts[1].id"),
        (19, 10, "hosts[1].links[0]"),
        (20, 1, "hosts[2]"),
        (21, 8, "hosts[2].name"),
        (22, 9, "hosts[2].links"),
        (23, 1, "hosts[2].adresses"),
        (25, 11, "channels[0].channel"),
        (27, 1, "tapp"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('nmae = "x"', "there is no such key: did you mean name?"),
        ('policy = "pasive"', "did you mean passive?"),
        ("hedge = 1", "hedge 1 is neither True nor False"),
        ("mtu = 100", "mtu 100 is not an integer from 576 to 65535"),
        ("pmtud_interval = 0.5", "pmtud_interval 0.5 is not 1 to 86400 seconds"),
        ("reconnect_interval = 0", "reconnect_interval 0 is not 0.001 to 86400 seconds"),
        ("dscp = 64", "dscp 64 is not an integer from 0 to 63"),
        ("service_channel = 32", "service_channel 32 is not an integer from 0 to 31"),
        ("log_level = 'loud'", "'loud' is not a log level: use one of"),
        ("log_level = 'debuk'", "did you mean debug?"),
        ("filter = 'somewhere'", "write 'package.module:function'"),
        ("accept_compression = ['zlip']", "zlip"),
        ("accept_compression = 'zlib'", "is not a list"),
        ("compress = { level = 3 }", "model is missing"),
        ("compress = { model = 'zlib', level = 99 }", "level"),
        ("compress = 'lz4'", "compress is not a table"),
        ("model = 'gost'", "crypto model 'gost' is not known; use one of"),
        ("hash = 'none'", "a cipher without a hash"),
        ("cipher = 'aes256-gcm'", "cipher 'aes256-gcm' is not known; it may be"),
        ("cipher = 'des'", "cipher 'des' is not known; use aes128, aes192 or aes256, with -ctr"),
        ("accept_crypto = { key_file = 'lab.key', model = 'aead' }", "the two need different keys"),
        ("hash = 'sha265'", "hash 'sha265' is not known"),
        ("port = 65535", "the port of link 1 would be 65536"),
        ("port = 0", "port 0 is not an integer from 1 to 65535"),
        ("accept_crypto = { cipher = 'aes128' }", "key_file is missing"),
        ("accept_crypto = { key_file = 'none.key' }", "No such file or directory"),
        ("accept_crypto = { key_file = '/' }", "key file / is not a regular file"),
        ("link.0.transport = 'udpp'", "did you mean udp?"),
        ("link.0.transport = 'stcp'", "did you mean sctp?"),
        ("link.0.transport = 'loopback'", "loopback = true"),
        ("link.0.pong_timeout = 0", "reserved"),
        ("link = 3", "its keys under [cluster.link]"),
        ("link.1.priority = 256", "priority 256 is not an integer from 0 to 255"),
    ],
)
def test_a_mistake_in_the_cluster_table_is_explained(tmp_path: Path, line: str, said: str) -> None:
    text = LAB.replace('name = "lab"', line)
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.line == 2
    assert said in str(mistake)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cipher", "aes256", "; use one of aes256-gcm, chacha20-poly1305, aes256-gcm-siv"),
        ("hash", "sha256", ": leave hash out, since its ciphers authenticate without one"),
    ],
)
def test_what_model_aead_has_not(tmp_path: Path, name: str, value: str, said: str) -> None:
    text = LAB.replace('name = "lab"', f"{name} = '{value}'\nmodel = 'aead'")
    (mistake,) = mistakes(tmp_path, text)
    assert (mistake.line, mistake.key) == (2, f"cluster.{name}")
    assert mistake.text == f"model 'aead' has no {name} '{value}'{said}"


def test_model_aead_and_what_is_beside_it(tmp_path: Path) -> None:
    """What a table does not name is what it inherits, unless that is of the other kind."""
    write_key(tmp_path / "new.key", KEY[:200])
    new = 'accept_crypto = { key_file = "new.key"'

    def names(lines: str) -> list[tuple[str, str, str]]:
        cluster = load_cluster(write_file(tmp_path, LAB.replace('name = "lab"', lines)))
        found = (cluster.crypto, cluster.accept_crypto)
        return [(one.cipher, one.hash, one.model) for one in found if one is not None]

    usual, siv = ("aes256-gcm", "none", "aead"), ("aes256-gcm-siv", "none", "aead")
    assert names('model = "aead"') == [usual]
    assert names('model = "aead"\ncipher = "aes256-gcm-siv"\nhash = "none"') == [siv]
    assert names(f'cipher = "aes128"\n{new}, model = "aead" }}') == [
        ("aes128", "sha256", "openssl"),
        usual,
    ]
    there = f'model = "aead"\ncipher = "aes256-gcm-siv"\n{new}'
    assert names(f"{there} }}") == [siv, siv]
    assert names(f'{there}, model = "nss" }}') == [siv, ("aes256", "sha256", "nss")]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("id = 2", "id = 1", "the host in line 9 already has the id 1: give each"),
        ("id = 2", "id = 70000", "host id 70000 is not an integer from 0 to 65535"),
        ("id = 2", "id = '2'", "host id '2' is not an integer"),
        ("id = 2", "", "id is missing"),
        ('name = "beta"', 'name = "alpha"', "the host in line 9 already has the name 'alpha'"),
        ('name = "beta"', 'name = "7"', "looks like the id 7"),
        ('name = "beta"', 'name = ""', "the text is empty"),
        ('name = "beta"', "name = 7", "7 is not text"),
        ("10.0.0.2", "10.0.0.1", "is already the address of the host in line 9 on link 0"),
        ("10.0.0.2", "fd00::2", "are not both IPv4 or both IPv6"),
        ("10.0.0.2", "10.0.0.2:0", "has no valid port"),
        ("10.0.0.2", "10.0.0.2:70000", "port 70000 is not 0 to 65535"),
        ("10.0.0.2", "beta.example", "is not an IP address"),
        ("10.0.0.2", "fe80::1", "is link-local"),
        ("10.0.0.2", "0.0.0.0", "0.0.0.0:5405 is not the address of a single"),
        ("10.0.0.2", "224.0.0.1", "224.0.0.1:5405 is not the address of a single"),
        ("10.0.0.2", "255.255.255.255", "255.255.255.255:5405 is not the address"),
        ('"10.0.0.2", "10.1.0.2"', '"", ""', "the host has no links"),
        ('"10.0.0.2", "10.1.0.2"', ", ".join(["''"] * 8 + ["'10.8.0.2'"]), "at most 8 links"),
        ('name = "beta"', "allow = ['10.0.0.1/8']", "is not a network"),
        ('name = "beta"', "allow = ['10.0.0.9-10.0.0.1']", "is not a range"),
        ('name = "beta"', "allow = ['10.0.0.1', '!10.0.0.1']", "the same addresses"),
        ('name = "beta"', "allow = '10.0.0.1'", "is not a list"),
        ("[[hosts]]\nid = 2", "[[host]]\nid = 2", "did you mean hosts?"),
    ],
)
def test_a_mistake_of_a_host_is_explained(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert LAB.count(before) == 1
    found = mistakes(tmp_path, LAB.replace(before, after))
    assert said in " / ".join(map(str, found))
    assert all(mistake.line is not None and mistake.line > 12 for mistake in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[hosts]\nid = 1\n", "write [[hosts]]"),
        ("", "there are no hosts"),
        ("[[hosts]]\nid = 1\nlinks = ['dynamic']\n", "there is no key"),
        (LAB + "[tap]\nname = 'a b'\nchannel = 1\n", "not a name for a network device"),
        (LAB + "[tap]\nname = 'x'\nchannel = 1\naddress = '{ip}'\n", "only {id}, {high} and {low}"),
        (LAB + "[tap]\nname = 'x'\nchannel = 1\naddress = '{id'\n", "only {id}, {high} and {low}"),
        (LAB + TAP + "address = '10.99.0.{id}'", "for host 1: '10.99.0.1' has no prefix length"),
        (LAB.replace("= 2", "= 300") + TAP + "address = '10.99.0.{id}/24'", "for host 300: "),
        (LAB + TAP + "address = '10.99.0.1/24'", "hosts 1 and 2 both get 10.99.0.1/24"),
        (LAB + TAP + "mac = '01:00:00:00:00:{low:x}'", "for host 1: 01:00:00:00:00:1 is a group"),
        (LAB + TAP + "mac = '02:00:00:00:00:01'", "hosts 1 and 2 both get 02:00:00:00:00:01"),
        (LAB + "[tap]\nname = 'a%d'\nchannel = 1\n", "not a name for a network device"),
        (LAB + "[tap]\nname = 'x'\n", "channel is missing"),
        (LAB + "[[channels]]\nchannel = 1\nsocket = ''\n", "the text is empty"),
        (LAB + f"[control]\nsocket = '/{'x' * 107}'\n", "use at most 107"),
        (LAB + "[metrics]\nlisten = ':9905'\n", "is not an IP address"),
        (LAB + "[metrics]\nlisten = '127.0.0.1:0'\n", "has no port"),
        (LAB + "[metrics]\n", "listen is missing"),
        (
            LAB + "[tap]\nname = 'x'\nchannel = 1\n[[channels]]\nchannel = 1\nsocket = 'a'\n",
            "channel 1 is taken by tap.channel",
        ),
        (
            LAB + "[[channels]]\nchannel = 1\nsocket='a'\n[[channels]]\nchannel = 2\nsocket='a'\n",
            "channels[0].socket has the same socket",
        ),
        ("[cluster]\ncipher = 'aes128'\n[[hosts]]\nid = 1\nlinks = ['10.0.0.1']\n", "set key_file"),
    ],
)
def test_a_mistake_elsewhere_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert said in str(mistake)
    assert mistake.line is not None


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[cluster]\nname = lab\n", 2, 8),
        ("[cluster]\nname = 'a'\nname = 'b'\n", 3, 11),
        ("[cluster\n", 1, 9),
        ("[cluster]\nname = 'lab", 2, 12),
        ("x = " + "[" * 100_000, 1, 1),
        ("[cluster]\nport = " + "1" * 5000, 2, 8),
    ],
)
def test_after_a_mistake_in_the_syntax_there_is_only_that(
    tmp_path: Path, text: str, line: int, column: int
) -> None:
    (mistake,) = mistakes(tmp_path, text + "")
    assert (mistake.line, mistake.column) == (line, column)


def test_what_is_odd_is_warned_of(tmp_path: Path) -> None:
    text = LAB.replace("pong_timeout = 1.0", "pong_timeout = 0.05") + (
        '[[hosts]]\nid = 3\nlinks = ["", "", "10.2.0.3"]\n'
    )
    cluster = load_cluster(write_file(tmp_path, text))
    said = [(warning.line, str(warning)) for warning in cluster.warnings]
    assert len(said) == 5
    assert all(line == 4 and "shorter than its ping interval" in text for line, text in said[:3])
    assert all(line == 17 and "never reach each other" in text for line, text in said[3:])


def test_timers_in_milliseconds_are_warned_of(tmp_path: Path) -> None:
    text = LAB.replace("pong_timeout = 1.0", "pong_timeout = 1000")
    said = [str(warning) for warning in load_cluster(write_file(tmp_path, text)).warnings]
    assert said
    assert all(
        "is 1000 s: give seconds, not milliseconds as in corosync.conf" in one for one in said
    )


def test_a_host_without_an_address_that_others_have_is_warned_of(tmp_path: Path) -> None:
    lacking = LAB.replace('"10.0.0.2", "10.1.0.2"', '"10.0.0.2"')
    assert lacking != LAB
    (warning,) = load_cluster(write_file(tmp_path, lacking)).warnings
    assert (warning.line, warning.key) == (13, "hosts[1]")
    assert warning.text.startswith("beta has no address on link 1, unlike other hosts: add it")
    # An empty address is no oversight, and neither is a link that few have.
    meant = LAB.replace('"10.0.0.2", "10.1.0.2"', '"10.0.0.2", ""')
    assert load_cluster(write_file(tmp_path, meant)).warnings == ()
    hosts = "".join(f"[[hosts]]\nid = {n}\nlinks = ['10.0.0.{n}']\n" for n in (3, 4, 5))
    assert load_cluster(write_file(tmp_path, LAB + hosts)).warnings == ()
    second = ", 'dynamic'"
    hosts = "".join(
        f"[[hosts]]\nid = {n}\nlinks = ['10.0.0.{n}'{second * (n % 2)}]\n" for n in range(1, 41)
    )
    text = f"[cluster]\nkey_file = 'lab.key'\n{hosts}"
    warnings = load_cluster(write_file(tmp_path, text)).warnings
    assert len(warnings) == 11
    assert warnings[10].text == "10 more hosts without an address on a link that others have"


def test_of_many_pairs_without_a_link_some_are_named_and_all_are_counted(tmp_path: Path) -> None:
    """A hub, and hosts whose addresses are learnt: millions of pairs take no time and memory."""
    hosts = "".join(f"[[hosts]]\nid = {n}\nlinks = ['dynamic']\n" for n in range(10, 1010))
    text = f"[cluster]\nkey_file = 'lab.key'\n[[hosts]]\nid = 1\nlinks = ['10.0.0.1']\n{hosts}"
    warnings = load_cluster(write_file(tmp_path, text)).warnings
    assert [warning.line for warning in warnings] == [*range(9, 42, 3)]
    assert all("the one in line 6 never" in warning.text for warning in warnings[:10])
    assert warnings[10].text == f"{1000 * 999 // 2 - 10} more pairs of hosts never reach each other"


def test_what_has_no_effect_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load_cluster(write_file(tmp_path, LAB + 'allow = ["10.0.0.2"]\n')).warnings
    assert (warning.line, warning.key) == (17, "hosts[1].allow")
    assert "no link of this host is dynamic" in warning.text


def test_the_text_of_the_error_has_a_line_for_each_mistake(tmp_path: Path) -> None:
    path = write_file(tmp_path, LAB.replace("id = 2", "id = 1").replace("lab.key", "none"))
    with pytest.raises(ClusterFileError) as caught:
        load_cluster(path)
    lines = str(caught.value).split("\n")
    assert [
        line.startswith(f"{path}:{number}:") for line, number in zip(lines, (3, 14), strict=True)
    ]
    assert caught.value.path == str(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ClusterFileError, match=said):
            load_cluster(path)
    path = tmp_path / "latin.toml"
    path.write_bytes("[cluster]\nname = 'ä'\n".encode("latin-1"))
    with pytest.raises(ClusterFileError, match=r"latin\.toml:2:9: this is not UTF-8"):
        load_cluster(path)


@pytest.mark.parametrize("key", ["/", ".", "..", "lab.toml/x", "nowhere/x", "x" * 252])
def test_what_cannot_be_a_key_file_is_said_of_the_key_file(tmp_path: Path, key: str) -> None:
    (mistake,) = mistakes(tmp_path, LAB.replace("lab.key", key))
    assert mistake.text.startswith("the key file ")
    assert (mistake.key, mistake.line) == ("cluster.key_file", 3)


def test_a_key_file_is_beside_the_file_whatever_the_directory_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path, LAB.replace("lab.key", "keys/mine"))
    (tmp_path / "keys").mkdir()
    write_key(tmp_path / "keys" / "mine")
    monkeypatch.chdir(tmp_path / "keys")
    assert load_cluster("../lab.toml").crypto is not None
    assert load_cluster(path).crypto is not None


def test_sockets_have_their_place_by_the_file_and_the_host(tmp_path: Path) -> None:
    text = LAB + (
        "[[channels]]\nchannel = 2\nsocket = 'events-{id}.data'\nmode = '0660'\ngroup = 'adm'\n"
        "[control]\nsocket = '/run/lab-{id}.sock'\n"
    )
    cluster = load_cluster(write_file(tmp_path, text))
    (channel,) = cluster.channels
    assert channel.get_socket(7) == tmp_path / "events-7.data"
    assert (channel.mode, channel.group) == ("0660", "adm")
    assert cluster.control.get_socket(7) == Path("/run/lab-7.sock")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mode = '0888'", "'0888' is not the mode of a file: write three octal digits"),
        ("mode = 0o660", "432 is not text"),
        ("socket = 'x{name}'", r"only {id}, {high} and {low} may be in braces"),
    ],
)
def test_what_a_socket_cannot_be(tmp_path: Path, line: str, said: str) -> None:
    text = "[[channels]]\nchannel = 2\nsocket = 'x'\n"
    text = text.replace("socket = 'x'", line) if "socket" in line else f"{text}{line}\n"
    with pytest.raises(ClusterFileError) as caught:
        load_cluster(write_file(tmp_path, LAB + text))
    assert said in str(caught.value)


def test_a_directory_of_any_name_is_part_of_a_path(tmp_path: Path) -> None:
    directory = tmp_path / "{a}"
    directory.mkdir()
    cluster = load_cluster(write_file(directory, LAB + "[control]\nsocket = 'lab-{id}'\n"))
    assert cluster.control.get_socket(7) == directory / "lab-7"


def test_a_directory_that_leaves_no_room_for_a_socket_is_warned_of(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    cluster = load_cluster(write_file(directory, LAB + "[control]\nsocket = 'lab.sock'\n"))
    (warning,) = cluster.warnings
    assert (warning.key, warning.line) == ("control.socket", 18)
    assert "use at most 107" in warning.text


def test_no_two_sockets_have_one_path(tmp_path: Path) -> None:
    text = "[[channels]]\nchannel = 2\nsocket = 'x'\n[control]\nsocket = 'x'\n"
    with pytest.raises(ClusterFileError, match=r"control.socket: channels\[0\].socket has the"):
        load_cluster(write_file(tmp_path, LAB + text))
