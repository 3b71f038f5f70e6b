"""What the doctor asks a program for."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from knet_trio.control import ControlRequestError, HostPing, connect_control, serve_control
from tests.cluster import open_pair, wait_for
from tests.control.serving import open_client


async def test_the_diagnoses_are_those_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair() as pair, serve_control(pair.a, path), connect_control(path) as client:
        link = pair.a.hosts[2].links[0]
        found = await client.discover_mtu(2, 0)
        assert found == link.status.mtu == await link.discover_mtu()
        said, known = await client.diagnose_link(2, 0), link.diagnose()
        assert (said.path_mtu, said.lost_size) == (known.path_mtu, known.lost_size)
        assert said.drops == known.drops
        assert said.ping_last is not None
        whole = await client.diagnose()
        assert whole.forwarding is True
        assert whole.encrypted is False
        assert whole.closed_channels == ()


async def test_a_host_has_no_diagnosis(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (_, client):
        with pytest.raises(ControlRequestError, match="host 1 has no diagnosis of its own"):
            await client.request("diagnose", host=1)
        said = await client.diagnose_link(1, 0)
        assert not said.drops
        assert await client.discover_mtu(1, 0) == 65535


async def test_several_pings(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair() as pair, serve_control(pair.a, path), connect_control(path) as client:
        (link,) = (await client.ping(2, count=5, interval=0.01)).links
        assert (link.sent, link.answered) == (5, 5)
        assert link.seconds is not None
        assert link.slowest is not None
        assert 0 < link.seconds <= link.slowest
        pair.a.hosts[2].links[0].enabled = False
        (link,) = (await client.ping(2, count=3, interval=0.01)).links
        assert (link.sent, link.answered, link.seconds, link.slowest) == (0, 0, None, None)


async def test_a_ping_that_was_under_way_when_the_link_went_down_is_a_lost_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.sock"
    async with (
        open_pair() as pair,
        serve_control(pair.a, path),
        connect_control(path) as client,
        trio.open_nursery() as nursery,
    ):
        link, peers = pair.a.hosts[2].links[0], pair.b.hosts[1].links[0]
        link.set_ping_timers(60.0, 120.0, 10)
        peers.enabled = False
        results: list[HostPing] = []

        async def ping() -> None:
            results.append(await client.ping(2))

        before = link.status.stats.tx_ping_packets
        nursery.start_soon(ping)
        await wait_for(lambda: link.status.stats.tx_ping_packets > before)
        link.enabled = False
        await wait_for(lambda: bool(results))
        (lost,) = results[0].links
        assert (lost.connected, lost.sent, lost.answered) == (False, 1, 0)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("ping", {"host": 1, "count": 0}),
        ("ping", {"host": 1, "count": 1001}),
        ("ping", {"host": 1, "interval": 0.001}),
        ("observe", {"seconds": 0.01}),
        ("observe", {"seconds": 61.0}),
    ],
)
async def test_numbers_have_bounds(
    tmp_path: Path, method: str, parameters: dict[str, int | float]
) -> None:
    async with open_client(tmp_path) as (_, client):
        with pytest.raises(ControlRequestError):
            await client.request(method, **parameters)


async def test_the_event_loop_is_observed(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (_, client):
        said = await client.observe(0.2)
        assert said.seconds >= 0.2
        assert 1 <= said.looks <= 11
        assert said.longest >= 0
