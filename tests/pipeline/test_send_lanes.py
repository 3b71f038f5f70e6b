"""The lanes of hosts on the way out: who waits for whom, and who does not."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio._core.onwire import Data, Ping
from knet_trio._core.policy import LinkPolicy
from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.send_lane import LANE_BYTES, LANE_MESSAGES
from knet_trio._state.send_socket import Connections, SendSocket
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from tests.pipeline.sending import data, drops, make, message, running
from tests.state.fakes import KEY, FakeEndpoint, World, address, refusal


class Sockets:
    """Hosts from 2 on, each with one link over a socket of its own."""

    def __init__(self, *hosts: int, crypto: CryptoConfig | None = None) -> None:
        self.world = World(crypto=crypto)
        self.endpoints: dict[int, FakeEndpoint] = {}
        self.send_sockets: dict[int, SendSocket] = {}
        for host_id in hosts:
            endpoint = self.endpoints[host_id] = FakeEndpoint()
            send_socket = self.send_sockets[host_id] = self.world.make_send_socket(endpoint)
            link = self.world.add_link(
                self.world.add_host(host_id), dst=address(10 * host_id), send_socket=send_socket
            )
            for _ in range(2):
                self.world.pong(link)
            endpoint.sent.clear()

    def hold(self, *hosts: int) -> None:
        """Have no room in the sockets of these hosts."""
        for host_id in hosts:
            self.endpoints[host_id].room = 0

    def release(self, *hosts: int) -> None:
        """Have room again."""
        for host_id in hosts:
            self.endpoints[host_id].give_room(math.inf)

    def data(self, host_id: int) -> list[Data]:
        """What a host was sent."""
        return [one for one in self.endpoints[host_id].packets() if isinstance(one, Data)]

    def payloads(self, host_id: int) -> list[bytes]:
        return [packet.payload for packet in self.data(host_id)]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Transmitter]:
        async with running(self.world) as transmitter, trio.open_nursery() as nursery:
            nursery.start_soon(self.world.context.heartbeats.run)
            for send_socket in self.send_sockets.values():
                nursery.start_soon(send_socket.run)
            yield transmitter
            nursery.cancel_scope.cancel()


async def fill(transmitter: Transmitter, *to: int) -> int:
    """Send until there is no room, and return how many messages that took."""
    sent = 0
    while True:
        try:
            transmitter.send_nowait((b"%d" % sent,), 0, to or None)
        except trio.WouldBlock:
            return sent
        sent += 1


class TestOneHost:
    async def test_that_takes_nothing_holds_up_no_other(self) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            assert await fill(transmitter, 2) == LANE_MESSAGES
            for number in range(10):
                await transmitter.send((b"%d" % number,), 0, (3,))
            await wait_all_tasks_blocked()
            assert sockets.payloads(3) == [b"%d" % number for number in range(10)]
            assert drops(sockets.world) == {}

    async def test_nor_a_broadcast_to_the_others(self) -> None:
        sockets = Sockets(2, 3, 4)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            for number in range(LANE_MESSAGES + 10):
                await transmitter.send((b"%d" % number,), 0)
            await wait_all_tasks_blocked()
            for host_id in (3, 4):
                assert len(sockets.payloads(host_id)) == LANE_MESSAGES + 10
            assert drops(sockets.world) == {DropCause.SEND_QUEUE_FULL: 10}
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert sockets.payloads(2) == [b"%d" % number for number in range(LANE_MESSAGES)]

    async def test_is_bounded_in_bytes_too(self) -> None:
        sockets = Sockets(2)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            sent = 0
            with pytest.raises(trio.WouldBlock):
                while True:
                    transmitter.send_nowait((bytes(65536),), 0, (2,))
                    sent += 1
            assert sent == LANE_BYTES // 65536

    async def test_keeps_its_order_across_messages_to_it_alone_and_to_several(self) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            for number in range(100):
                await transmitter.send((b"%d" % number,), 0, (2,) if number % 3 else None)
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert sockets.payloads(2) == [b"%d" % number for number in range(100)]
            seqs = [packet.seq for packet in sockets.data(2)]
            assert seqs == sorted(seqs)


class TestWaiting:
    async def test_a_sender_waits_for_its_host_alone(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2, 3)
            await fill(transmitter, 2)
            await fill(transmitter, 3)
            done: list[int] = []

            async def send(host_id: int) -> None:
                await transmitter.send((b"last",), 0, (host_id,))
                done.append(host_id)

            nursery.start_soon(send, 2)
            nursery.start_soon(send, 3)
            await wait_all_tasks_blocked()
            assert done == []
            sockets.release(3)
            await wait_all_tasks_blocked()
            assert done == [3]
            assert sockets.payloads(3)[-1] == b"last"
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert done == [3, 2]
        nursery.cancel_scope.cancel()

    async def test_when_all_are_stuck_a_broadcast_waits(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2, 3)
            sent = await fill(transmitter)
            assert sent == LANE_MESSAGES
            nursery.start_soon(transmitter.send, (b"last",), 0)
            await wait_all_tasks_blocked()
            sockets.release(2, 3)
            await wait_all_tasks_blocked()
            for host_id in (2, 3):
                assert len(sockets.payloads(host_id)) == LANE_MESSAGES + 1
            assert drops(sockets.world) == {}
        nursery.cancel_scope.cancel()

    async def test_hosts_of_equal_speed_lose_nothing(self, autojump_clock: MockClock) -> None:
        sockets = Sockets(2, 3, 4, 5)
        total = 5 * LANE_MESSAGES
        async with sockets.running() as transmitter, trio.open_nursery() as nursery:
            sockets.hold(2, 3, 4, 5)

            async def drain(host_id: int) -> None:
                while True:
                    await trio.sleep(0.01)
                    # What is left of the room before goes unused: each is as fast as the others.
                    sockets.endpoints[host_id].give_room(100)

            for host_id in (2, 3, 4, 5):
                nursery.start_soon(drain, host_id)
            for number in range(total):
                await transmitter.send((b"%d" % number,), 0)
            with trio.fail_after(60):
                await transmitter.flush()
            for host_id in (2, 3, 4, 5):
                assert sockets.payloads(host_id) == [b"%d" % number for number in range(total)]
            assert drops(sockets.world) == {}
            nursery.cancel_scope.cancel()

    async def test_those_who_wait_go_on_in_the_order_in_which_they_came(
        self, nursery: trio.Nursery
    ) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await fill(transmitter, 2)
            for number in range(20):
                to = (2,) if number % 2 else (2, 3)
                # Both lanes fill together, so a broadcast waits too.
                sockets.hold(3)
                await fill(transmitter, 3)
                nursery.start_soon(transmitter.send, (b"waits %d" % number,), 0, to)
                await wait_all_tasks_blocked()
            sockets.release(2, 3)
            await wait_all_tasks_blocked()
            waited = [one for one in sockets.payloads(2) if one.startswith(b"waits")]
            assert waited == [b"waits %d" % number for number in range(20)]
        nursery.cancel_scope.cancel()

    async def test_a_cancelled_send_went_to_nobody(self) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2, 3)
            await fill(transmitter)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(transmitter.send, (b"cancelled",), 0)
                    await wait_all_tasks_blocked()
                    scope.cancel()
            sockets.release(2, 3)
            await wait_all_tasks_blocked()
            for host_id in (2, 3):
                assert b"cancelled" not in sockets.payloads(host_id)

    async def test_one_that_gives_up_lets_those_behind_it_go_on(
        self, nursery: trio.Nursery
    ) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2, 3)
            await fill(transmitter, 2)
            # Host 3 is as far behind as it takes to wait for host 2.
            for number in range(LANE_MESSAGES // 2):
                await transmitter.send((b"%d" % number,), 0, (3,))
            scope = trio.CancelScope()

            async def broadcast() -> None:
                with scope:
                    await transmitter.send((b"to both",), 0)

            nursery.start_soon(broadcast)
            await wait_all_tasks_blocked()
            nursery.start_soon(transmitter.send, (b"to 3",), 0, (3,))
            await wait_all_tasks_blocked()
            assert sockets.world.handle.hosts[3].lane.messages == LANE_MESSAGES // 2
            scope.cancel()
            await wait_all_tasks_blocked()
            assert sockets.world.handle.hosts[3].lane.messages == LANE_MESSAGES // 2 + 1
        nursery.cancel_scope.cancel()


class TestBehindAnother:
    async def test_a_broadcast_does_not_wait_behind_one_for_the_stuck_host(
        self, nursery: trio.Nursery
    ) -> None:
        sockets = Sockets(2, 3)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await fill(transmitter, 2)
            nursery.start_soon(transmitter.send, (b"to 2",), 0, (2,))
            await wait_all_tasks_blocked()
            # As if the transport had not come round to it yet.
            sockets.world.handle.hosts[2].lane.blocked = False
            with pytest.raises(trio.WouldBlock):
                transmitter.send_nowait((b"to both",), 0)
            nursery.start_soon(transmitter.send, (b"to both",), 0)
            await wait_all_tasks_blocked()
            transmitter._transport.wake(2)  # pyright: ignore[reportPrivateUsage]
            await wait_all_tasks_blocked()
            assert sockets.payloads(3) == [b"to both"]
            assert drops(sockets.world) == {DropCause.SEND_QUEUE_FULL: 1}
        nursery.cancel_scope.cancel()


class TestLostHosts:
    @pytest.mark.parametrize("how", ["down", "removed"])
    async def test_who_waits_returns_and_all_is_counted(
        self, how: str, nursery: trio.Nursery
    ) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        async with sockets.running() as transmitter:
            sockets.hold(2)
            sent = await fill(transmitter, 2)
            done = trio.Event()

            async def send() -> None:
                await transmitter.send((b"waits",), 0, (2,))
                done.set()

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert not done.is_set()
            host = world.handle.hosts[2]
            host.network_links[0].set_enabled(False)
            if how == "removed":
                host.network_links[0].close()
                host.remove(host.network_links[0])
                world.handle.remove(host)
            with trio.fail_after(5):
                await done.wait()
            assert drops(world) == {DropCause.HOST_DOWN: sent + 1}
        nursery.cancel_scope.cancel()

    async def test_a_broadcast_that_waits_goes_to_those_that_are_left(
        self, nursery: trio.Nursery
    ) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        async with sockets.running() as transmitter:
            sockets.hold(2, 3)
            sent = await fill(transmitter)
            nursery.start_soon(transmitter.send, (b"last",), 0)
            await wait_all_tasks_blocked()
            world.handle.hosts[2].network_links[0].set_enabled(False)
            sockets.release(3)
            await wait_all_tasks_blocked()
            assert sockets.payloads(3)[-1] == b"last"
            assert drops(world) == {DropCause.HOST_DOWN: sent + 1}
        nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("change", ["another link", "policy"])
    async def test_what_waits_goes_on_when_links_or_policy_change(self, change: str) -> None:
        sockets = Sockets(2)
        world = sockets.world
        host = world.handle.hosts[2]
        other = FakeEndpoint()
        link = world.add_link(host, 1, dst=address(21), send_socket=world.make_send_socket(other))
        if change == "policy":
            world.bring_up(link)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            if change == "policy":
                other.room = 0
            await transmitter.send((b"waits",), 0)
            await wait_all_tasks_blocked()
            other.give_room(math.inf)
            if change == "policy":
                link.sender.send_socket.full = False
                host.set_policy(LinkPolicy.ROUND_ROBIN)
            else:
                world.bring_up(link)
            await wait_all_tasks_blocked()
            sent = [one.payload for one in other.packets() if isinstance(one, Data)]
            assert sent == [b"waits"]


class TestEnds:
    async def test_a_closed_channel_wakes_those_who_send_on_it(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await fill(transmitter, 2)
            ours, other = ChannelState(), ChannelState()
            closed: list[str] = []

            async def send(owner: ChannelState, name: str) -> None:
                try:
                    await transmitter.send((name.encode(),), 0, (2,), owner)
                except trio.ClosedResourceError:
                    closed.append(name)

            nursery.start_soon(send, ours, "ours")
            nursery.start_soon(send, other, "other")
            await wait_all_tasks_blocked()
            ours.closed = True
            transmitter.close_channel(ours)
            await wait_all_tasks_blocked()
            assert closed == ["ours"]
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert sockets.payloads(2)[-1] == b"other"
        nursery.cancel_scope.cancel()

    async def test_the_end_of_the_handle_wakes_all(self, nursery: trio.Nursery) -> None:
        sockets = Sockets(2)
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await fill(transmitter, 2)

            async def send() -> None:
                with pytest.raises(trio.ClosedResourceError, match="the handle has ended"):
                    await transmitter.send((b"x",), 0, (2,))

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            transmitter.close()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


class TestNumbers:
    async def test_a_ping_tells_what_was_handed_on_and_not_what_waits(
        self, mock_clock: MockClock
    ) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        async with sockets.running() as transmitter:
            await transmitter.send((b"handed on",), 0)
            # Where the turn is over, it waits a moment.
            await transmitter.flush()
            sockets.hold(2)
            for number in range(10):
                await transmitter.send((b"%d" % number,), 0)
            await wait_all_tasks_blocked()
            sockets.endpoints[2].room = 1
            world.handle.hosts[2].network_links[0].heartbeat.ping(world.context.now(), timed=True)
            pings = [one for one in sockets.endpoints[2].packets() if isinstance(one, Ping)]
            assert pings[-1].seq == 1
            sockets.release(2)
            await wait_all_tasks_blocked()
            assert all(packet.seq > 1 for packet in sockets.data(2)[1:])
            world.handle.hosts[2].network_links[0].heartbeat.ping(world.context.now(), timed=True)
            pings = [one for one in sockets.endpoints[2].packets() if isinstance(one, Ping)]
            assert pings[-1].seq == world.context.seq

    async def test_what_waits_is_sealed_with_the_key_of_when_it_leaves(self) -> None:
        sockets = Sockets(2, crypto=CryptoConfig(KEY))
        crypto = sockets.world.context.crypto
        async with sockets.running() as transmitter:
            sockets.hold(2)
            await transmitter.send((b"waits",), 0)
            crypto.set(CryptoConfig(bytes(reversed(KEY))), 2)
            crypto.use(2)
            crypto.set(None, 1)
            sockets.release(2)
            await wait_all_tasks_blocked()
            opened = crypto.open_untrusted(sockets.endpoints[2].datagrams[-1])
            assert opened.endswith(b"waits")

    async def test_hosts_at_the_same_place_get_the_same_datagrams(self) -> None:
        sockets = Sockets(2, 3, crypto=CryptoConfig(KEY))
        async with sockets.running() as transmitter:
            await transmitter.send((b"x",), 0)
            await wait_all_tasks_blocked()
            assert {*sockets.endpoints[2].datagrams} & {*sockets.endpoints[3].datagrams}


class TestFullQueuesOfTheSystem:
    async def test_no_buffers_are_waited_for_by_a_timer(self, autojump_clock: MockClock) -> None:
        sockets = Sockets(2, 3)
        world = sockets.world
        full = True

        def refuse(_: bytes, __: Address) -> None:
            if full:
                raise refusal(errno.ENOBUFS)

        sockets.endpoints[2].refuse = refuse
        async with sockets.running() as transmitter:
            for number in range(5):
                await transmitter.send((b"%d" % number,), 0)
            await trio.sleep(1)
            assert sockets.payloads(2) == []
            assert len(sockets.payloads(3)) == 5
            full = False
            await trio.sleep(0.1)
            assert sockets.payloads(2) == [b"%d" % number for number in range(5)]
        link = world.handle.hosts[2].network_links[0]
        assert drops(world) == {}
        assert link.status().stats.tx_data_errors == 0
        assert link.counters.trouble is None


class TestCopies:
    async def test_with_the_active_policy_one_link_is_enough(self) -> None:
        sockets = Sockets(2)
        world = sockets.world
        host = world.handle.hosts[2]
        host.policy = LinkPolicy.ACTIVE
        other = FakeEndpoint()
        world.bring_up(
            world.add_link(host, 1, dst=address(21), send_socket=world.make_send_socket(other))
        )
        async with sockets.running() as transmitter:
            sockets.hold(2)
            for number in range(10):
                await transmitter.send((b"%d" % number,), 0)
            await wait_all_tasks_blocked()
            assert len([one for one in other.packets() if isinstance(one, Data)]) == 10
            assert drops(world) == {}
            assert host.network_links[0].counters.drops == {DropCause.SEND_QUEUE_FULL: 10}


async def test_links_that_share_a_full_socket_get_their_own() -> None:
    world = make(2, 3)
    own = FakeEndpoint()
    opened: list[Address] = []

    class OfTheTest(Connections):
        def connect(self, send_socket: SendSocket, destination: Address) -> SendSocket:
            opened.append(destination)
            return world.make_send_socket(own)

    world.context.connections = OfTheTest()
    async with running(world) as transmitter:
        world.endpoint.room = 0
        await transmitter.send(*message(b"to 2", to=[2]))
        await transmitter.send(*message(b"to 3", to=[3]))
        await wait_all_tasks_blocked()
        assert opened == [address(20), address(30)]
        sent = [one.payload for one in own.packets() if isinstance(one, Data)]
        assert sent == [b"to 2", b"to 3"]
        assert data(world) == []
