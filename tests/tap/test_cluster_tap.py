"""The tap of a cluster file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from knet_trio import BusyError, InvalidArgumentError, open_handle
from knet_trio.cluster import open_cluster
from knet_trio.tap import open_cluster_tap
from tests.cluster import PATIENCE
from tests.cluster.files import LAB, write_file
from tests.ports import free_udp_port
from tests.tap.ethernet import DEVICE, Places, open_places, ping

TAP = """
[tap]
name = "knet0"
channel = 3
address = "10.88.0.{id}/24"
mac = "02:00:00:00:{high:02x}:{low:02x}"
"""


def write_cluster(directory: Path, tap: str = TAP) -> Path:
    port = free_udp_port("127.0.0.1", "127.0.0.2")
    text = LAB.replace('"10.0.0.1", "10.1.0.1"', f'"127.0.0.1:{port}"')
    return write_file(
        directory, text.replace('"10.0.0.2", "10.1.0.2"', f'"127.0.0.2:{port}"') + tap
    )


def read_device(places: Places, side: int) -> str:
    return places.ip(side, "-oneline", "address", "show", DEVICE)


@pytest.mark.usefixtures("taps")
async def test_the_hosts_of_a_file_have_an_ethernet(tmp_path: Path) -> None:
    path = write_cluster(tmp_path)
    with open_places() as places:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            handles = [await enter(open_cluster(path, host=host)) for host in (1, 2)]
            for side, handle in enumerate(handles):
                with places.inside(side):
                    tap = await enter(open_cluster_tap(handle))
                    assert tap.mac == f"02:00:00:00:00:0{side + 1}"
                assert f"inet 10.88.0.{side + 1}/24" in read_device(places, side)
                with pytest.raises(BusyError, match="channel 3"):
                    handle.open_channel(3)
            with trio.fail_after(PATIENCE):
                for handle in handles:
                    for host in handle.hosts.values():
                        await host.wait_reachable()
            await ping(places, 0, 1)
        assert all(DEVICE not in places.ip(side, "-oneline", "link", "show") for side in (0, 1))


@pytest.mark.usefixtures("taps")
async def test_what_is_in_its_way_is_said_in_no_group(tmp_path: Path) -> None:
    with open_places() as places:
        async with open_cluster(write_cluster(tmp_path), host=1) as handle:
            handle.open_channel(3)
            with places.inside(0):
                with pytest.raises(BusyError, match="channel 3"):
                    async with open_cluster_tap(handle):
                        raise AssertionError("the channel is taken")
                places.ip(0, "tuntap", "add", "dev", DEVICE, "mode", "tap")
                with pytest.raises(BusyError, match="network device knet0"):
                    async with open_cluster_tap(handle):
                        raise AssertionError("the name is taken")


async def test_a_file_without_a_tap_is_said(tmp_path: Path) -> None:
    path = write_cluster(tmp_path, "")
    async with open_cluster(path, host=1) as handle:
        with pytest.raises(InvalidArgumentError, match=rf"{path} has no \[tap\]"):
            open_cluster_tap(handle)
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="has no cluster file"):
            open_cluster_tap(handle)
