"""A corosync.conf means here what it means to a corosync that runs with it."""

from __future__ import annotations

import re
import socket
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from knet_trio.cluster import ClusterFileError, load_cluster, open_cluster
from tests.cluster import PATIENCE
from tests.cluster.running_corosync import Corosync, corosync_missing, is_accepted, running
from tests.interop.conftest import need
from tests.interop.namespaces import NamespacePair, namespace_pair
from tests.kernel import kernel_has_sctp

FILES: Final = Path(__file__).parent / "corosync"
WITH_SCTP: Final = FILES / "sctp.conf"
DEBIAN: Final = Path("/etc/corosync/corosync.conf")
LINKS: Final = 8
LISTENING: Final = "10.77.1.1:6001"
_LOW_DELAY: Final = 0x10


@pytest.fixture(scope="module")
def pair() -> Generator[NamespacePair]:
    need(corosync_missing())
    with namespace_pair(LINKS) as made:
        yield made


def numbers(log: str, pattern: str) -> dict[tuple[int, int], tuple[int, ...]]:
    """What the log says last of each host's links: the host, the link and more numbers."""
    rows = re.findall(rf"host: (\d+) link: (\d+) {pattern}", log)
    return {(int(host), int(link)): tuple(map(int, rest)) for host, link, *rest in rows}


@pytest.mark.parametrize(
    "file", sorted(set(FILES.glob("*.conf")) - {WITH_SCTP}), ids=lambda path: path.stem
)
def test_a_file_means_the_same(file: Path, pair: NamespacePair, tmp_path: Path) -> None:
    hostname = "alpha" if "name: alpha" in file.read_text() else "elsewhere"
    with (
        ExitStack() as stack,
        running(pair, file.read_text(), tmp_path, hostname=hostname) as corosync,
    ):
        said = corosync.describe()
        ears = listen(pair, said, stack)
        compare(corosync, said)
        # Pings arrive where our links would lead to, marked as ours would be.
        for where, ear in ears.items():
            marked = hear(ear)
            # Packets of IPv6 are not marked by it.
            assert marked == (0 if ":" in where[0] else _LOW_DELAY), where


def test_the_file_of_debians_package_means_the_same(pair: NamespacePair, tmp_path: Path) -> None:
    if not DEBIAN.exists():
        pytest.skip("the package brings no corosync.conf")
    with running(pair, DEBIAN.read_text(), tmp_path, hostname="node1") as corosync:
        compare(corosync, corosync.describe())


@pytest.mark.parametrize("name", ["two_rings", "ipv6", "secauth", "interface_options"])
def test_a_host_of_ours_has_its_links_to_it(name: str, pair: NamespacePair, tmp_path: Path) -> None:
    text = (FILES / f"{name}.conf").read_text()
    with running(pair, text, tmp_path) as corosync, pair.inside(1):
        join(corosync, text, tmp_path)


@pytest.mark.skipif(not kernel_has_sctp(), reason="this kernel has no SCTP")
def test_a_file_with_sctp_means_the_same(pair: NamespacePair, tmp_path: Path) -> None:
    text = WITH_SCTP.read_text()
    with running(pair, text, tmp_path) as corosync:
        said = corosync.describe()
        compare(corosync, said)
        transports = [link["transport"] for link in said["links"]]
        assert transports == ["udp", "sctp"]
        assert LISTENING in corosync.run("ss", "-l", "-n", "-H", "--sctp").split()
        with pair.inside(1):
            join(corosync, text, tmp_path)


def join(corosync: Corosync, text: str, directory: Path) -> None:
    """Be node 2 of a corosync's file until all links are up, there too."""
    mine = directory / "mine.conf"
    mine.write_text(text.replace("version: 2", f"version: 2\nkeyfile: {directory}/etc/authkey"))

    async def take_part() -> int:
        async with open_cluster(mine, host=2) as handle:
            links = handle.get_host(1).links
            with trio.fail_after(PATIENCE):
                for link in links.values():
                    await link.wait_connected()
                while connected(corosync) != len(links):  # noqa: ASYNC110  # no event tells of it
                    await trio.sleep(0.2)
            return len(links)

    assert trio.run(take_part) == len(load_cluster(mine).links)


def connected(corosync: Corosync) -> int:
    """How many links to node 2 it says are up."""
    said = corosync.run("corosync-cfgtool", "-s")
    return len(re.findall(r"nodeid: +2:\s+connected", said))


def listen(
    pair: NamespacePair, said: dict[str, Any], stack: ExitStack
) -> dict[tuple[str, int], socket.socket]:
    """Sockets at the addresses of the second host, in the other namespace."""
    second = next(host for host in said["hosts"] if host["host_id"] != said["me"])
    ears: dict[tuple[str, int], socket.socket] = {}
    with pair.inside(1):
        for _, dst in said["plans"][str(second["host_id"])].values():
            is_ipv6 = ":" in dst[0]
            family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
            ear = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if is_ipv6:
                ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            else:
                ear.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            ear.settimeout(30)
            ear.bind((dst[0], dst[1]))
            ears[dst[0], dst[1]] = ear
    return ears


def hear(ear: socket.socket) -> int:
    """Wait for a packet; its type of service."""
    _, ancillary, _, _ = ear.recvmsg(65536, 1024)
    ((_, _, data),) = ancillary
    return int.from_bytes(data, "little")


def compare(corosync: Corosync, said: dict[str, Any]) -> None:
    cmap, log = corosync.cmap(), corosync.log
    compare_nodes(cmap, log, said)
    compare_links(cmap, log, said)
    compare_settings(cmap, log, said)


def compare_nodes(cmap: dict[str, str], log: str, said: dict[str, Any]) -> None:
    assert said["name"] == cmap.get("totem.cluster_name", "")
    hosts = said["hosts"]
    for number, host in enumerate(hosts):
        base = f"nodelist.node.{number}"
        assert str(host["host_id"]) == cmap[f"{base}.nodeid"]
        assert host["name"] == cmap.get(f"{base}.name", str(host["host_id"]))
    assert f"nodelist.node.{len(hosts)}.nodeid" not in cmap
    me = hosts[int(cmap["nodelist.local_node_pos"])]
    assert said["me"] == me["host_id"]
    local = re.findall(r"link number (\d): local addr: (\S+), port=(\d+)", log)
    assert [(str(link["link_id"]), *map(str, link["address"])) for link in me["links"]] == local


def compare_links(cmap: dict[str, str], log: str, said: dict[str, Any]) -> None:
    timers = numbers(log, r"timeout update - interval: (\d+) timeout: (\d+) precision: (\d+)")
    priorities = numbers(log, r"priority set to: (\d+)")
    pongs = numbers(log, r"pong count update: (\d+)")
    links = {link["link_id"]: link for link in said["links"]}
    others = [host["host_id"] for host in said["hosts"] if host["host_id"] != said["me"]]
    expected = {(host, link) for host in others for link in links}
    assert expected == {way for way in timers if way[0] != said["me"]}
    for way in expected:
        link = links[way[1]]
        interval, timeout, precision = timers[way]
        assert round(link["ping_interval"] * 1e6) == interval
        assert round(link["pong_timeout"] * 1e6) == timeout
        assert link["latency_samples"] == precision
        assert (link["priority"],) == priorities[way]
        assert (link["pong_count"],) == pongs[way]
    for number, link in links.items():
        base = f"runtime.config.totem.interface.{number}"
        assert round(link["ping_interval"] * 1e3) == int(cmap[f"{base}.knet_ping_interval"])
        assert round(link["pong_timeout"] * 1e3) == int(cmap[f"{base}.knet_ping_timeout"])
    policies = re.findall(r"Host (\d+) has new switching policy: (\d)", log)
    assert {policy for host, policy in policies if int(host) in others} <= {str(said["policy"])}


def compare_settings(cmap: dict[str, str], log: str, said: dict[str, Any]) -> None:
    runtime = {
        key.removeprefix("runtime.config.totem."): value
        for key, value in cmap.items()
        if key.startswith("runtime.config.totem.")
    }
    assert (said["mtu"] or 0) == int(runtime["knet_mtu"])
    assert said["pmtud_interval"] == int(runtime["knet_pmtud_interval"])
    assert said["access_lists"] == (runtime["block_unlisted_ips"] == "1")
    compress = said["compress"]
    if compress is None:
        assert runtime["knet_compression_model"] == "none"
    else:
        assert compress["model"] == runtime["knet_compression_model"]
        assert (compress["level"] or 0) == int(runtime["knet_compression_level"])
        assert compress["threshold"] == int(runtime["knet_compression_threshold"])
    crypto = said["crypto"]
    modules = re.findall(r"Initializing crypto module \[(\w+)/(\w+)/(\w+)\]", log)
    if crypto is None:
        assert not modules or modules == [("none", "none", "none")]
    else:
        assert modules[-1] == (crypto["model"], crypto["cipher"], crypto["hash"])
    tap = said["tap"]
    devices = re.findall(r"Opened '(\w+)'", log)
    assert devices == ([] if tap is None else [tap["name"]])
    if tap is not None:
        (address,) = re.findall(r"Local nozzle IP address is (\S+) / (\d+)", log)
        assert said["tap_address"] == "/".join(address)
        assert re.findall(r"Local nozzle MAC address is (\S+)", log) == [said["tap_mac"]]


NODES: Final = """
nodelist {
  node {
    nodeid: 1
    name: a
    ring0_addr: 127.0.0.1
  }
  node {
    nodeid: 2
    name: b
    ring0_addr: 127.0.0.2
  }
}
"""


def totem(*lines: str) -> str:
    return "\n".join(["totem {", "version: 2", *lines, "}", NODES])


@pytest.mark.parametrize(
    "text",
    [
        totem(),
        totem("secauth: off"),
        totem("foo: bar"),
        totem("token: 5000", "}", "foo {", "a: b", "}", "totem {", "token: 6000"),
        totem("knet_pmtud_interval: 10", "# interface {", "   # anything"),
        totem("interface {", "linknumber: 0", "knet_ping_interval: 0", "}"),
        # What it refuses.
        totem("crypto_cipher: aes256"),
        totem("crypto_hash: sha1", "keyfile: /nonexistent"),
        totem("crypto_hash: sha1", "key: short"),
        totem("crypto_cipher: des"),
        totem("crypto_hash: sha265"),
        totem("crypto_model: gost"),
        totem("link_mode: sometimes"),
        totem("token: soon"),
        totem("token: -1"),
        totem("knet_compression_model: lz5"),
        totem("ip_version: ipv5"),
        totem("interface {", "linknumber: 0", "knet_transport: tcp", "}"),
        totem("interface {", "linknumber: 0", "knet_transport: sctp", "}"),
        totem("interface {", "linknumber: 0", "knet_link_priority: 256", "}"),
        totem("interface {", "linknumber: 3", "knet_link_priority: 2", "}"),
        totem().replace("version: 2", "version: 3"),
        totem().replace("version: 2", ""),
        totem().replace("version: 2", "version 2"),
        totem().replace("totem {", "totem { # the first"),
        totem() + "}\n",
        totem() + "quorum {\n",
        totem().replace("nodeid: 2", "nodeid: 70000"),
        totem().replace("nodeid: 2", "nodeid: 1"),
        totem().replace("nodeid: 2", ""),
        totem().replace("127.0.0.2", "nowhere.invalid"),
        totem().replace("ring0_addr: 127.0.0.2", "ring1_addr: 127.0.0.2"),
        totem().replace("name: b", "ring1_addr: 127.0.0.3"),
    ],
)
def test_what_corosync_refuses_is_refused(text: str, tmp_path: Path) -> None:
    need(corosync_missing())
    path = tmp_path / "corosync.conf"
    path.write_text(text)
    if is_accepted(path):
        load_cluster(path)
    else:
        with pytest.raises(ClusterFileError):
            load_cluster(path)
