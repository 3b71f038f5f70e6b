"""Hosts: their links, being reached, and being taken away."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from knet_trio import (
    BusyError,
    HostStatus,
    InvalidArgumentError,
    KnetError,
    LinkPolicy,
    NotImplementedByKnetError,
    TransportError,
    UnknownHostError,
    open_handle,
)
from tests.cluster import LOCALHOST, PATIENCE, open_pair, receive
from tests.ports import free_udp_port

HERE = (LOCALHOST, 0)
THERE = (LOCALHOST, 5405)


async def test_a_host_without_links_is_not_reachable() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        assert host.status == HostStatus(reachable=False, remote=False, external=False)
        assert dict(host.links) == {}
        await host.wait_unreachable()
        assert "unreachable" in repr(host)


async def test_a_link_shows_its_settings_and_the_port_it_took() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        link = await host.add_link(7, HERE, THERE, priority=3, ping_interval=0.5, pong_count=2)
        assert host.links[7] is link
        assert link.host is host
        assert link.config.src[0] == LOCALHOST
        assert link.config.src[1] > 0
        assert link.config.dst == THERE
        assert (link.link_id, link.priority, link.pong_count) == (7, 3, 2)
        assert link.config.ping_interval == 0.5
        assert (link.config.pong_timeout, link.config.latency_samples) == (2.0, 2048)
        assert link.enabled


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"link_id": 8}, InvalidArgumentError),
        ({"link_id": -1}, InvalidArgumentError),
        ({"src": ("localhost", 1)}, InvalidArgumentError),
        ({"src": (LOCALHOST, 70000)}, InvalidArgumentError),
        ({"dst": (LOCALHOST, 0)}, InvalidArgumentError),
        ({"dst": ("0.0.0.0", 1)}, InvalidArgumentError),
        ({"dst": ("::1", 1)}, InvalidArgumentError),
        ({"dst": ("fe80::1", 1)}, InvalidArgumentError),
        ({"transport": "pigeon"}, InvalidArgumentError),
        ({"priority": 256}, InvalidArgumentError),
        ({"ping_interval": 0}, InvalidArgumentError),
        ({"ping_interval": float("nan")}, InvalidArgumentError),
        ({"pong_timeout": -1}, InvalidArgumentError),
        ({"pong_timeout": 0}, NotImplementedByKnetError),
        ({"latency_samples": 0}, InvalidArgumentError),
        ({"pong_count": 0}, InvalidArgumentError),
        ({"pong_count": 256}, InvalidArgumentError),
    ],
)
async def test_a_link_that_cannot_be_is_refused_and_nothing_stays(
    options: dict[str, object], error: type[KnetError]
) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        with pytest.raises(error) as caught:
            await host.add_link(**{"link_id": 0, "src": HERE, "dst": THERE, **options})  # type: ignore[arg-type]
        assert isinstance(caught.value, ValueError)
        assert caught.value.errno == error.errno
        assert dict(host.links) == {}
        await host.add_link(0, HERE, THERE)


async def test_a_link_id_in_use_is_refused() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        link = await host.add_link(0, HERE, THERE)
        with pytest.raises(BusyError) as caught:
            await host.add_link(0, HERE, THERE)
        assert caught.value.errno == errno.EBUSY
        assert host.links[0] is link


async def test_an_address_that_somebody_else_has_is_refused_with_the_systems_errno() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(HERE)
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            with pytest.raises(TransportError, match="cannot bind UDP") as caught:
                await host.add_link(0, taken.getsockname(), THERE)
            assert caught.value.errno == errno.EADDRINUSE
            assert dict(host.links) == {}


async def test_links_with_the_same_local_address_share_its_socket() -> None:
    async with open_handle(1) as handle:
        src = LOCALHOST, free_udp_port()
        first = await handle.add_host(2).add_link(0, src, THERE)
        second = await handle.add_host(3).add_link(0, src, (LOCALHOST, 5406))
        assert second.config.src == src
        await first.remove()
        with (
            pytest.raises(OSError, match="in use"),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        ):
            other.bind(src)
        await second.remove()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(src)


async def test_links_with_and_without_a_destination_do_not_share_an_address() -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        link = await host.add_link(0, HERE, THERE)
        with pytest.raises(InvalidArgumentError, match="of its own"):
            await host.add_link(1, link.config.src)


async def test_a_removed_host_is_gone_with_its_links() -> None:
    async with open_pair(links=2) as pair:
        host = pair.a.get_host(2)
        links = list(host.links.values())
        sources = [link.config.src for link in links]
        await host.remove()
        assert dict(pair.a.hosts) == {}
        for src in sources:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(src)
        with pytest.raises(UnknownHostError, match="add it again"):
            await host.add_link(0, HERE, THERE)
        with pytest.raises(UnknownHostError):
            await host.remove()
        with pytest.raises(UnknownHostError):
            host.policy = LinkPolicy.ACTIVE
        with pytest.raises(LookupError):
            links[0].enabled = False
        with pytest.raises(trio.ClosedResourceError):
            await host.wait_reachable()
        assert pair.a.add_host(2) is not host


async def test_removing_a_host_wakes_who_waits_for_it() -> None:
    async with open_handle(1) as handle, trio.open_nursery() as nursery:
        host = handle.add_host(2)

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await host.wait_reachable()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await host.remove()


async def test_a_host_is_reachable_while_one_link_is_up() -> None:
    async with open_pair(links=2) as pair:
        host = pair.a.get_host(2)
        host.links[0].enabled = False
        assert host.status.reachable
        host.links[1].enabled = False
        with trio.fail_after(PATIENCE):
            await host.wait_unreachable()
            host.links[1].enabled = True
            await host.wait_reachable()


async def test_the_policy_can_change_while_messages_flow() -> None:
    async with open_pair(links=2) as pair:
        sender, receiver = pair.a.open_channel(0), pair.b.open_channel(0)
        host = pair.a.get_host(2)
        for policy in LinkPolicy:
            host.policy = policy
            assert host.policy is policy
            await sender.send_many([b"x"] * 20)
            assert await receive(receiver, 20) == [b"x"] * 20
        with pytest.raises(InvalidArgumentError, match="LinkPolicy"):
            host.policy = "active"  # type: ignore[assignment]
