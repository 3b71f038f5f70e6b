"""Random sends to random hosts, while about everything happens that may happen to them.

A seed decides what is done, and in which order Trio runs the tasks. One that fails is run again by
its name: ``pytest tests/pipeline/test_random_sends.py -k 'seed17'``.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar, TypeVarTuple, Unpack

import pytest
import trio

from knet_trio._core.onwire import Data, Packet, Ping
from knet_trio._pipeline.transmitter import ChannelState, Transmitter
from knet_trio._state.context import Compression
from knet_trio._state.turns import TURN, counted_turns
from knet_trio.abc import Compressor
from knet_trio.address import Address
from knet_trio.errors import SendError
from knet_trio.testing import SimulatedNetwork, run
from tests.pipeline.sending import drops
from tests.pipeline.test_send_lanes import Sockets
from tests.state.fakes import refusal

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

HOSTS: Final = (2, 3, 4)
SEEDS: Final = 40
STEPS: Final = 130
# The first bytes of a message are its name.
NAME: Final = 6

Copy = tuple[int, bytes]
"""A message to one host: the host's id, and the message's name."""


class Shortener(Compressor):
    """Takes off the last byte. What is longer than 300 bytes needs a thread."""

    wire_id = 77
    compress_at_once = 300

    def compress(self, message: bytes) -> bytes:
        return message[:-1]

    def decompress_untrusted(self, data: bytes, limit: int) -> bytes:
        raise NotImplementedError


async def work_for_a_while(work: Callable[[Unpack[Ts]], T], /, *args: *Ts) -> T:
    """Do what a thread would do, which nobody can cancel."""
    made = work(*args)
    with trio.CancelScope(shield=True):
        await trio.sleep(0.003)
    return made


class Expected:
    """What has to have become of each copy of a message.

    Attributes:
        taken: Those that were handed over: each was sent or counted.
        sent: Those of them that a ``send_sync`` said were sent.
        never: Those that were given up before they began: they were not sent, and not counted.
        unknown: Those of a ``send_sync`` that failed: some of it may have been sent or counted.
        together: The names of messages that forwarding was off for, maybe, before it was settled
            where they go: such a message is counted once, and not for each host.
    """

    def __init__(self) -> None:
        self.taken: set[Copy] = set()
        self.sent: set[Copy] = set()
        self.never: set[Copy] = set()
        self.unknown: set[Copy] = set()
        self.together: set[bytes] = set()


class Play:
    """One handle, and what happens to it."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(f"sends {seed}")
        with counted_turns(dice.choice([0.0, TURN / 32, TURN / 4])):
            self.sockets = Sockets(*HOSTS)
        self.world = self.sockets.world
        context = self.world.context
        context.worker = work_for_a_while
        if dice.random() < 0.6:
            context.fixed_mtu = 65535
            self.world.handle.restart_discovery()
        self.compression = Compression(Shortener(), 60) if dice.random() < 0.6 else None
        self.expected = Expected()
        self.channels = [ChannelState() for _ in range(3)]
        self.messages = 0
        # How often forwarding was off when others ran.
        self.interruptions = 0
        self.scopes: list[trio.CancelScope] = []
        self.transmitter: Transmitter
        self.nursery: trio.Nursery

    async def run(self) -> None:
        """Play it from the beginning to the verdict."""
        actions: dict[Callable[[], Awaitable[None]], int] = {
            self.send: 50,
            self.hold: 10,
            self.release: 10,
            self.give_some_room: 5,
            self.refuse_one: 2,
            self.toggle_link: 5,
            self.cancel: 4,
            self.set_compression: 4,
            self.close_channel: 2,
            self.interrupt_forwarding: 2,
        }
        async with self.sockets.running() as self.transmitter, trio.open_nursery() as background:
            background.start_soon(self.world.context.chores.run)
            with trio.fail_after(300):
                async with trio.open_nursery() as self.nursery:
                    for _ in range(STEPS):
                        (act,) = self.dice.choices(list(actions), list(actions.values()))
                        await act()
                        await self.pass_time()
                    self.calm_down()
                # All have returned.
                await self.transmitter.flush()
            background.cancel_scope.cancel()
        self.judge()

    # What happens.

    async def send(self) -> None:
        dice = self.dice
        to = tuple(dice.sample(HOSTS, dice.choice([1, 1, 2, 3])))
        count = dice.choice([1, 1, 1, 5, 64])
        channel = dice.choice(self.channels)
        for _ in range(dice.choice([1, 1, 3, 30])):
            if dice.random() < 0.05:
                self.nursery.start_soon(self.send_sync, self.message(), to[0], channel)
            else:
                datas = [self.message() for _ in range(count)]
                self.nursery.start_soon(self.send_batch, datas, to, channel)

    async def hold(self) -> None:
        self.sockets.hold(self.host_id())

    async def release(self) -> None:
        self.sockets.release(self.host_id())

    async def give_some_room(self) -> None:
        self.sockets.endpoints[self.host_id()].give_room(self.dice.choice([1, 5, 70]))

    async def refuse_one(self) -> None:
        """Have the system refuse a datagram, and maybe take the link down in doing so."""
        host_id = self.host_id()
        endpoint = self.sockets.endpoints[host_id]
        goes_down = self.dice.random() < 0.5

        def refuse(_: bytes, __: Address) -> None:
            endpoint.refuse = None
            if goes_down:
                self.world.handle.hosts[host_id].network_links[0].set_enabled(False)
            raise refusal(errno.EPERM)

        endpoint.refuse = refuse

    async def toggle_link(self) -> None:
        link = self.world.handle.hosts[self.host_id()].network_links[0]
        if link.enabled:
            link.set_enabled(False)
        else:
            link.set_enabled(True)
            self.world.bring_up(link)

    async def cancel(self) -> None:
        for scope in self.dice.sample(self.scopes, len(self.scopes) // 3):
            scope.cancel()
        self.scopes.clear()

    async def set_compression(self) -> None:
        on = self.dice.random() < 0.7
        self.world.context.compression = self.compression if on else None

    async def close_channel(self) -> None:
        number = self.dice.randrange(len(self.channels))
        channel, self.channels[number] = self.channels[number], ChannelState()
        channel.closed = True
        self.transmitter.close_channel(channel)

    async def interrupt_forwarding(self) -> None:
        self.world.context.forwarding = False
        self.transmitter.stop()
        if self.dice.random() < 0.5:
            self.interruptions += 1
            await trio.lowlevel.checkpoint()
            self.interruptions += 1
        self.world.context.forwarding = True

    async def pass_time(self) -> None:
        if self.dice.random() < 0.5:
            for _ in range(self.dice.choice([1, 1, 5, 50])):
                await trio.lowlevel.checkpoint()
        if self.dice.random() < 0.2:
            await trio.sleep(self.dice.choice([0.001, 0.01, 0.3]))

    def calm_down(self) -> None:
        """Let everything go out that can."""
        hosts = self.world.handle.hosts
        for host_id in HOSTS:
            self.sockets.endpoints[host_id].refuse = None
            link = hosts[host_id].network_links[0]
            link.set_enabled(True)
            if not link.connected.is_on:
                self.world.bring_up(link)
            self.sockets.release(host_id)

    # Those who send.

    def host_id(self) -> int:
        return self.dice.choice(HOSTS)

    def message(self) -> bytes:
        self.messages += 1
        size = self.dice.choice([1, 10, 100, 200, 500, 500, 3000])
        return b"%0*d" % (NAME, self.messages) + bytes(size)

    async def send_batch(
        self, datas: list[bytes], to: tuple[int, ...], channel: ChannelState
    ) -> None:
        copies = {(host_id, data[:NAME]) for host_id in to for data in datas}
        before = self.interruptions
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            try:
                await self.transmitter.send(datas, 0, to, channel)
            except trio.ClosedResourceError:
                self.expected.never |= copies
            else:
                self.expected.taken |= copies
                if self.interruptions != before or self.interruptions % 2:
                    self.expected.together |= {name for _, name in copies}
        if scope.cancelled_caught:
            self.expected.never |= copies

    async def send_sync(self, data: bytes, host_id: int, channel: ChannelState) -> None:
        copy = (host_id, data[:NAME])
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            try:
                await self.transmitter.send_sync(data, 0, (host_id,), channel)
            except (trio.ClosedResourceError, SendError):
                self.expected.unknown.add(copy)
            else:
                self.expected.taken.add(copy)
                self.expected.sent.add(copy)
        if scope.cancelled_caught:
            self.expected.unknown.add(copy)

    # What has to be so.

    def judge(self) -> None:
        expected = self.expected
        for host_id, host in self.world.handle.hosts.items():
            lane = host.lane
            left = (len(lane.items), len(lane.urgent), len(lane.waiters))
            assert left == (0, 0, 0), f"host {host_id} has got left {left}"
            assert lane.messages == lane.size == 0
        arrived = Counter[Copy]()
        for host_id in HOSTS:
            arrived.update((host_id, name) for name in names(self.sockets.data(host_id)))
        twice = [copy for copy, times in arrived.items() if times > 1]
        assert not twice
        assert not expected.never & arrived.keys()
        assert arrived.keys() <= expected.taken | expected.unknown
        assert expected.sent <= arrived.keys()
        missing = expected.taken - arrived.keys()
        together = [copy for copy in missing if copy[1] in expected.together]
        least = len(missing) - len(together) + len({name for _, name in together})
        counted = sum(drops(self.world).values())
        assert least <= counted <= len(missing) + len(expected.unknown)
        judged = expected.taken | expected.never | expected.unknown
        assert len({name for _, name in judged}) == self.messages


def names(packets: Iterable[Data]) -> list[bytes]:
    """The names of the messages of which all fragments have arrived."""
    fragments: dict[tuple[int, int], dict[int, Data]] = {}
    found: list[bytes] = []
    for packet in packets:
        if packet.frag_num == 1:
            found.append(packet.payload[:NAME])
        else:
            same = fragments.setdefault((packet.seq, packet.frag_num), {})
            assert packet.frag_seq not in same
            same[packet.frag_seq] = packet
            if len(same) == packet.frag_num:
                found.append(same[1].payload[:NAME])
    return found


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed{seed}")
def test_each_message_is_sent_or_counted_once(seed: int) -> None:
    async def main(_: SimulatedNetwork) -> None:
        await Play(seed).run()

    run(main, seed=seed)


def test_a_seed_is_the_same_play_each_time() -> None:
    async def main(_: SimulatedNetwork) -> list[tuple[float, Packet]]:
        play = Play(0)
        await play.run()
        packets: list[tuple[float, Packet]] = []
        for endpoint in play.sockets.endpoints.values():
            for sent, packet in zip(endpoint.sent, endpoint.packets(), strict=True):
                # The stamp of a ping shows a secret, which is another one in each run.
                same = packet._replace(time=b"") if isinstance(packet, Ping) else packet
                packets.append((sent.time, same))
        return packets

    first, second = (run(main, seed=0) for _ in range(2))
    assert len(first) > 1000
    assert first == second
