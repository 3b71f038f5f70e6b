"""A cluster file to a running handle."""

from __future__ import annotations

import os
import socket
import traceback
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from knet_trio import (
    AclEntry,
    Broadcast,
    FilterPacket,
    FilterResult,
    InvalidArgumentError,
    TransportError,
    UnknownHostError,
)
from knet_trio.cluster import (
    ClusterFileError,
    find_own_host,
    get_cluster,
    load_cluster,
    open_cluster,
)
from knet_trio.testing import open_network
from tests.cluster import PATIENCE
from tests.cluster.files import LAB, write_file
from tests.cluster.test_key_file import check_no_key
from tests.ports import free_udp_port

# The addresses of nobody.
QUIET = LAB.replace("10.0.0.", "192.0.2.").replace("10.1.0.", "198.51.100.")


async def test_two_hosts_of_a_file_speak(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = write_file(tmp_path, LAB)
    async with (
        open_network(1),
        open_cluster(path, host="alpha") as alpha,
        open_cluster(load_cluster(path), host=2) as beta,
    ):
        assert (alpha.host_id, beta.host_id) == (1, 2)
        assert {host.name: list(host.links) for host in alpha.hosts.values()} == {"beta": [0, 1]}
        inbox = beta.open_channel(0)
        with trio.fail_after(PATIENCE):
            for link in alpha.get_host("beta").links.values():
                await link.wait_connected()
            await alpha.open_channel(0).send(b"hello")
            assert (await inbox.receive()).data == b"hello"
        assert get_cluster(alpha) == get_cluster(beta) == load_cluster(path)
        assert alpha.crypto_in_use == 1


async def test_all_settings_get_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    options = f"""
policy = "active"
compress = {{ model = "zlib", level = 3, threshold = 7 }}
allow_clear_traffic = true
access_lists = false
mtu = 1400
pmtud_interval = 5
reconnect_interval = 2
hedge = false
dscp = 10
log_level = "debug"
loopback = true
filter = "{__name__}:to_everybody"
forwarding = false
[cluster.link.1]
priority = 3
latency_samples = 9
high_priority = true
enabled = false
"""
    text = LAB.replace('name = "lab"\n', "").replace(
        'key_file = "lab.key"\n', f'key_file = "lab.key"{options}'
    )
    async with open_network(1), open_cluster(write_file(tmp_path, text), host=1) as handle:
        assert handle.allow_clear_traffic
        assert not handle.access_lists
        assert (handle.mtu, handle.pmtud_interval, handle.reconnect_interval) == (1400, 5, 2)
        assert (handle.hedge, handle.dscp, handle.forwarding) == (False, 10, False)
        assert handle.get_log_level("link").name == "DEBUG"
        beta = handle.get_host("beta")
        assert beta.policy.value == "active"
        first, second = beta.links.values()
        assert first.enabled
        assert not second.enabled
        assert (first.config.ping_interval, first.config.pong_count) == (0.1, 1)
        assert (second.config.priority, second.config.latency_samples) == (3, 9)
        assert second.config.high_priority
        (loopback,) = handle.get_host("alpha").links.values()
        assert loopback.config.transport == "loopback"
        await handle.set_forwarding(True)
        inbox = handle.open_channel(0)
        await inbox.send(b"to myself")
        assert (await inbox.receive()).data == b"to myself"


def to_everybody(packet: FilterPacket) -> FilterResult:
    """A filter that a file can name."""
    return Broadcast(packet.channel)


async def test_an_address_that_is_learnt(tmp_path: Path) -> None:
    port = free_udp_port("127.0.0.1", "0.0.0.0")
    text = LAB.replace('"10.0.0.1", "10.1.0.1"', f'"", "127.0.0.1:{port}"')
    text = text.replace('"10.0.0.2", "10.1.0.2"', '"", "dynamic"')
    path = write_file(tmp_path, text + 'allow = ["127.0.0.0/16", "!10.0.0.0/8"]\n')
    async with open_cluster(path, host=1) as alpha:
        link = alpha.get_host(2).links[1]
        assert link.config.dst is None
        assert list(link.acl) == [
            AclEntry.network("127.0.0.0/16"),
            AclEntry.network("10.0.0.0/8", accept=False),
        ]
        async with open_cluster(path, host=2) as beta:
            assert beta.get_host(1).links[1].config.src == ("0.0.0.0", 5406)
            with trio.fail_after(PATIENCE):
                await link.wait_connected()


async def test_a_host_finds_itself_by_its_addresses(tmp_path: Path) -> None:
    text = LAB.replace('"10.0.0.2", "10.1.0.2"', f'"127.0.0.1:{free_udp_port()}"')
    path = write_file(tmp_path, text.replace(', "10.1.0.1"', ""))
    assert find_own_host(load_cluster(path)).name == "beta"
    async with open_cluster(path) as handle:
        assert handle.host_id == 2


def test_a_host_that_does_not_find_itself_says_what_to_do(tmp_path: Path) -> None:
    cluster = load_cluster(write_file(tmp_path, LAB))
    with pytest.raises(InvalidArgumentError, match=r"no address of a host .* host=: alpha, beta"):
        find_own_host(cluster)
    several = load_cluster(write_file(tmp_path, LAB.replace("10.0.0.", "127.0.0.")))
    with pytest.raises(InvalidArgumentError, match=r"several hosts .* host=: alpha, beta"):
        find_own_host(several)
    with pytest.raises(UnknownHostError, match=r"no host 'gamma'.*alpha \(1\), beta \(2\)"):
        find_own_host(cluster, "gamma")


def with_a_port_that_is_taken(directory: Path, taken: socket.socket) -> Path:
    """A file whose host 1 cannot have its second link."""
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    free = free_udp_port("127.0.0.1", "127.0.0.2")
    text = LAB.replace('"10.0.0.1", "10.1.0.1"', f'"127.0.0.1:{free}", "127.0.0.1:{port}"')
    return write_file(
        directory,
        text.replace('"10.0.0.2", "10.1.0.2"', f'"127.0.0.2:{free}", "127.0.0.2:{port}"'),
    )


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """The error says which link it is and is in no group, and nothing is left open."""
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        path = with_a_port_that_is_taken(tmp_path, taken)
        with pytest.raises(TransportError, match=r"link 1 to host 2: .*in use") as caught:
            async with open_cluster(path, host=1):
                pytest.fail("it opened")
    check_no_key(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_a_file_names_and_is_not_there(tmp_path: Path) -> None:
    for filter in ("nowhere:function", f"{__name__}:nothing"):
        text = LAB.replace('name = "lab"', f'filter = "{filter}"')
        with pytest.raises(InvalidArgumentError, match="cannot be found") as wrong:
            async with open_cluster(write_file(tmp_path, text), host=1):
                pytest.fail("it opened")
        check_no_key(wrong.value)
    with pytest.raises(ClusterFileError):
        async with open_cluster(tmp_path / "none", host=1):
            pytest.fail("it opened")


async def test_the_program_gets_its_own_errors_as_they_are(tmp_path: Path) -> None:
    def helper() -> None:
        variable = "still here"
        raise ZeroDivisionError(variable)

    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        async with open_cluster(write_file(tmp_path, QUIET), host=1):
            helper()
    (error,) = caught.value.exceptions
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert frames[-1].f_locals["variable"] == "still here"
