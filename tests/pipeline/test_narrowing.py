"""Messages that have become too large for their path on the way to the socket."""

from __future__ import annotations

import errno
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.transmitter import Transmitter
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, NoProgressError, SendError
from tests.pipeline.sending import Outgoing, data, drops, make, message, running, send
from tests.state.fakes import (
    HEADERS,
    FakeEndpoint,
    World,
    address,
    refusal,
    reply_to_last_probe,
)

WIDE = 9000
NARROW = 1500


def find_mtu(link: NetworkLinkState, onwire: int) -> None:
    """Let a search end at ``onwire``."""
    now = trio.current_time()
    link.path_mtu.search.start(now)
    link.sender.send_socket.endpoint.limit_mtu(onwire)  # type: ignore[attr-defined]
    link.path_mtu.discover(now)
    assert link.path_mtu.reply_received(reply_to_last_probe(link), now)
    assert link.path_mtu.search.onwire == onwire


def narrowing(
    *hosts: int,
    links: int = 1,
    policy: LinkPolicy = LinkPolicy.PASSIVE,
    crypto: CryptoConfig | None = None,
) -> World:
    """The interface of all links has just become narrower than the searches found it."""
    world = make(*hosts, links=links, policy=policy)
    world.context.crypto.replace(crypto)
    world.handle.restart_discovery()
    for link in world.handle.network_links():
        find_mtu(link, WIDE)
    world.endpoint.sent.clear()
    world.endpoint.limit_mtu(NARROW)
    return world


def ignore(cause: DropCause, times: int = 1) -> None:
    """The host that takes it in counts for itself."""


def delivered(world: World, destination: Address | None = None) -> list[bytes]:
    """What a host that gets all of that delivers."""
    source = InboundSequence(ignore, 64)
    found = [source.receive(packet) for packet in data(world, destination)]
    return [message for message in found if message is not None]


TEXT = bytes(range(256)) * 100


class TestFragmentedAgain:
    @pytest.mark.parametrize("size", [NARROW, WIDE - 100, WIDE + 1, 3 * WIDE, len(TEXT)])
    async def test_a_message_that_does_not_pass_goes_in_smaller_fragments(self, size: int) -> None:
        world = narrowing(2)
        await send(world, message(TEXT[:size], channel=3))
        assert delivered(world) == [TEXT[:size]]
        assert all(len(sent.datagram) + HEADERS <= NARROW for sent in world.endpoint.sent)
        assert {packet.channel for packet in data(world)} == {3}
        assert drops(world) == {}

    async def test_only_those_of_a_batch_that_do_not_pass(self) -> None:
        world = narrowing(2)
        sizes = (10, WIDE - 100, 20, 2000, NARROW - 100)
        await send(world, *[message(TEXT[i : i + size]) for i, size in enumerate(sizes)])
        # And in their order, since nothing goes before what was too large.
        assert delivered(world) == [TEXT[i : i + size] for i, size in enumerate(sizes)]
        assert drops(world) == {}

    async def test_sealed_ones_too(self) -> None:
        world = narrowing(2, crypto=CryptoConfig(key=b"k" * 128))
        await send(world, *[message(TEXT[i : i + 3000]) for i in range(4)])
        opened = [world.context.crypto.open_untrusted(s.datagram) for s in world.endpoint.sent]
        source = InboundSequence(ignore, 64)
        found = [
            source.receive(packet)
            for packet in map(decode_untrusted, opened)
            if isinstance(packet, Data)
        ]
        assert [one for one in found if one] == [TEXT[i : i + 3000] for i in range(4)]

    async def test_it_has_a_new_number(self) -> None:
        # A host may have a fragment of it already, and no use for one of other fragments.
        world = narrowing(2)
        await send(world, message(TEXT[: WIDE + 100]))
        assert {packet.seq for packet in data(world)} == {2}

    async def test_a_path_that_narrows_twice(self) -> None:
        world = narrowing(2)
        sent = 0

        def narrow_again(_: object) -> None:
            nonlocal sent
            sent += 1
            if sent == 3:
                world.endpoint.limit_mtu(1280)

        world.endpoint.on_sent = narrow_again
        await send(world, message(TEXT))
        assert delivered(world) == [TEXT]
        assert drops(world) == {}

    async def test_to_those_hosts_only_that_need_it(self) -> None:
        world = make(2, 3)
        near, far = world.handle.hosts[2], world.handle.hosts[3]
        wide = FakeEndpoint()
        near.network_links[0].sender.send_socket = world.make_send_socket(wide)
        for link in (near.network_links[0], far.network_links[0]):
            find_mtu(link, WIDE)
        world.endpoint.limit_mtu(NARROW)
        world.endpoint.sent.clear()
        wide.sent.clear()
        await send(world, message(TEXT[:4000]))
        assert [p.frag_num for p in wide.packets() if isinstance(p, Data)] == [1]
        assert delivered(world) == [TEXT[:4000]]
        assert all(packet.broadcast for packet in data(world))


class TestOtherLinks:
    async def test_a_wider_link_takes_it_as_it_is(self) -> None:
        world = make(2)
        host = world.handle.hosts[2]
        wide = FakeEndpoint()
        world.bring_up(
            world.add_link(host, 1, dst=address(21), send_socket=world.make_send_socket(wide))
        )
        for link in host.network_links.values():
            find_mtu(link, WIDE)
        world.endpoint.limit_mtu(NARROW)
        world.endpoint.sent.clear()
        wide.sent.clear()
        await send(world, message(TEXT[:4000]))
        assert data(world) == []
        assert [packet.seq for packet in wide.packets() if isinstance(packet, Data)] == [1]

    @pytest.mark.parametrize("policy", LinkPolicy)
    async def test_all_links_have_narrowed(self, policy: LinkPolicy) -> None:
        world = narrowing(2, links=3, policy=policy)
        await send(world, message(TEXT[:4000]), message(TEXT[:5000]))
        assert delivered(world) == [TEXT[:4000], TEXT[:5000]]
        assert drops(world) == {}


class TestWhileItWaits:
    async def test_for_room(self, autojump_clock: MockClock) -> None:
        world = narrowing(2)
        world.endpoint.room = 0
        async with running(world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(world.send_socket.run)
            await transmitter.send(*message(TEXT[:4000]))
            assert world.endpoint.sent == []
            world.endpoint.give_room(math.inf)
            with trio.fail_after(5):
                await transmitter.flush()
            nursery.cancel_scope.cancel()
        assert delivered(world) == [TEXT[:4000]]
        assert drops(world) == {}

    async def test_in_the_middle_of_a_message(self, autojump_clock: MockClock) -> None:
        # Three of its fragments have gone when the path narrows.
        world = make(2)
        find_mtu(world.handle.hosts[2].network_links[0], WIDE)
        world.endpoint.sent.clear()
        world.endpoint.room = 2
        async with running(world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(world.send_socket.run)
            await transmitter.send(*message(TEXT))
            world.endpoint.limit_mtu(NARROW)
            world.endpoint.give_room(math.inf)
            with trio.fail_after(5):
                await transmitter.flush()
            nursery.cancel_scope.cancel()
        assert delivered(world) == [TEXT]
        assert drops(world) == {}

    async def test_sync_waits_for_all_of_it(self, autojump_clock: MockClock) -> None:
        world = narrowing(2)
        # There is room for a probe, and for one fragment when it is cut again.
        world.endpoint.room = 2
        returned = trio.Event()

        async with running(world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(world.send_socket.run)

            async def send_sync() -> None:
                await transmitter.send_sync(TEXT[:4000], 0, (2,))
                returned.set()

            nursery.start_soon(send_sync)
            await wait_all_tasks_blocked()
            assert len(data(world)) == 1
            assert not returned.is_set()
            world.endpoint.give_room(math.inf)
            with trio.fail_after(5):
                await returned.wait()
            assert delivered(world) == [TEXT[:4000]]
            nursery.cancel_scope.cancel()
        assert drops(world) == {}


class TestLost:
    async def test_a_system_that_does_not_say_how_much_passes(self) -> None:
        world = narrowing(2)
        world.endpoint.limit_mtu(NARROW, tells=False)
        await send(world, message(TEXT[:4000]))
        assert data(world) == []
        assert drops(world) == {DropCause.SEND_FAILED: 1}

    async def test_sync_raises_then(self) -> None:
        world = narrowing(2)
        transmitter = Transmitter(world.handle)
        await transmitter.send_sync(TEXT[:4000], 0, (2,))
        assert delivered(world) == [TEXT[:4000]]
        world.endpoint.limit_mtu(NARROW - 500, tells=False)
        with pytest.raises(NoProgressError) as caught:
            await transmitter.send_sync(TEXT[:4000], 0, (2,))
        assert caught.value.errno == errno.EMSGSIZE

    async def test_a_path_too_narrow_for_any_data_takes_the_host_down(self) -> None:
        world = narrowing(2)
        world.endpoint.limit_mtu(HEADERS + 20)
        await send(world, Outgoing([TEXT[:4000]] * 3))
        assert not world.handle.hosts[2].ranked
        assert sum(drops(world).values()) == 3
        assert drops(world)[DropCause.HOST_DOWN] >= 2

    async def test_what_waits_in_its_lane_then_is_counted_once(
        self, autojump_clock: MockClock
    ) -> None:
        world = narrowing(2)
        world.endpoint.room = 0
        host = world.handle.hosts[2]
        async with running(world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(world.send_socket.run)
            await transmitter.send(*Outgoing([TEXT[:100], TEXT[:200], TEXT[:4000]]))
            await transmitter.send(*message(TEXT[:100]))
            world.endpoint.limit_mtu(HEADERS + 20)
            too_large = world.endpoint.refuse
            forbidden: list[bytes] = []

            def refuse(datagram: bytes, destination: Address) -> None:
                if not forbidden:
                    forbidden.append(datagram)
                    raise refusal(errno.EPERM)
                assert too_large is not None
                too_large(datagram, destination)

            world.endpoint.refuse = refuse
            world.endpoint.give_room(math.inf)
            with trio.fail_after(5):
                await transmitter.flush()
            nursery.cancel_scope.cancel()
        assert not host.ranked
        assert drops(world) == {DropCause.SEND_FAILED: 1, DropCause.HOST_DOWN: 3}
        assert host.lane.messages == host.lane.size == 0

    async def test_sync_raises_then_too(self) -> None:
        world = narrowing(2)
        world.endpoint.limit_mtu(HEADERS + 20)
        with trio.fail_after(5), pytest.raises(SendError):
            await Transmitter(world.handle).send_sync(TEXT[:4000], 0, (2,))
        assert not world.handle.hosts[2].ranked
