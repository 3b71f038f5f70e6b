"""One host of a simulated cluster: its lives, one after the other, and what each saw and did."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import attrs
import trio

from knet_trio import (
    AclEntry,
    Channel,
    CompressConfig,
    CryptoConfig,
    Event,
    Handle,
    HostStatusChanged,
    LinkStatistics,
    LinkStatusChanged,
    Message,
    SendError,
    UnknownHostError,
    open_handle,
)
from knet_trio._pipeline.batches import BATCH_MESSAGES
from tests.simulation.messages import (
    SIZES,
    Call,
    Name,
    Sent,
    decide,
    make_data,
    read_name,
)
from tests.simulation.scenario import CHANNELS, Scenario
from tests.simulation.timeline import Timeline

PORT = 5405
# A socket has links with a known peer, or such as wait for one.
DYNAMIC_PORT = 5406


class Receipt(NamedTuple):
    """A message that a program took from a channel."""

    at: float
    channel: int
    message: Message


@attrs.define(eq=False)
class Life:
    """A host from one start to its end. ``reach`` and ``links`` are as its handle told them."""

    host: int
    number: int
    began: float
    ended: float = math.inf
    handle: Handle | None = None
    receipts: list[Receipt] = attrs.field(factory=list[Receipt])
    reach: dict[int, Timeline] = attrs.field(factory=dict[int, Timeline])
    links: dict[tuple[int, int], Timeline] = attrs.field(factory=dict[tuple[int, int], Timeline])
    sent: int = 0
    # Of hosts that were removed: what their links counted, and the messages of theirs that waited
    # to be worked on.
    gone: list[LinkStatistics] = attrs.field(factory=list[LinkStatistics])
    forgotten: int = 0
    # Calls that have not returned yet.
    calls: dict[Call, None] = attrs.field(factory=dict[Call, None])
    talkers: int = 0

    @property
    def running(self) -> Handle:
        """Its handle, which it has."""
        assert self.handle is not None
        return self.handle


class World(Protocol):
    """What is around a host."""

    scenario: Scenario
    talking: trio.Event
    ledger: dict[Name, Sent]
    slots: dict[int, CryptoConfig]
    slot_in_use: int

    def address(self, host: int, link: int) -> str:
        """Where the links of a host lead to, unless it roams."""
        ...

    def here(self, host: int, link: int) -> str:
        """Where a host binds a link."""
        ...

    def apply(self) -> None:
        """Have the network and the handles be as they should."""
        ...


class Node:
    """A host. ``policy`` and so on are what its next life begins with."""

    def __init__(self, world: World, host: int) -> None:
        scenario = world.scenario
        self.host = host
        self.policy = scenario.policy(host)
        self.compress = scenario.compress[host - 1] if scenario.compress else ""
        self.lives: list[Life] = []
        # How many numbers to use up when it speaks next.
        self.skip = 0
        self._world = world
        self._rng = random.Random(f"{scenario.seed} host {host}")
        self._scope = trio.CancelScope()
        self._leave = trio.Event()
        self.ended = trio.Event()
        self._channels: list[Channel] = []
        # For what is not in every scenario.
        self._dice = random.Random(f"{scenario.seed} calls of host {host}")
        self._nursery: trio.Nursery | None = None

    @property
    def life(self) -> Life | None:
        """The life it has now."""
        return self.lives[-1] if self.lives and self.lives[-1].ended == math.inf else None

    def life_at(self, time: float) -> int:
        """The number of its life at a time, 0 if it had none."""
        for life in reversed(self.lives):
            if life.began <= time:
                return life.number if time <= life.ended else 0
        return 0

    def leave(self, *, kill: bool) -> None:
        """End its life, in good order or not."""
        if kill:
            self._scope.cancel()
        else:
            self._leave.set()

    async def live(self, task_status: trio.TaskStatus[None]) -> None:
        """One life, started once its links are there."""
        world, scenario = self._world, self._world.scenario
        life = Life(self.host, len(self.lives) + 1, trio.current_time())
        self._scope, self._leave, self.ended = trio.CancelScope(), trio.Event(), trio.Event()
        try:
            with self._scope:
                async with open_handle(
                    self.host,
                    allow_clear_traffic=scenario.cipher is None,
                    compress=CompressConfig(self.compress) if self.compress else None,
                    filter=decide if scenario.filters else None,
                    pmtud_interval=scenario.pmtud_interval,
                    hedge=scenario.hedge,
                ) as handle:
                    life.handle = handle
                    self.lives.append(life)
                    for slot, config in world.slots.items():
                        handle.set_crypto(config, slot)
                    handle.use_crypto(world.slot_in_use)
                    async with trio.open_nursery() as nursery:
                        self._channels = [handle.open_channel(n) for n in range(CHANNELS)]
                        await nursery.start(self._watch, life)
                        for peer in self.peers():
                            await self.join(life, peer)
                        for channel in self._channels:
                            nursery.start_soon(self._read, life, channel)
                        self._nursery = nursery
                        for _ in range(scenario.talkers):
                            nursery.start_soon(self._talk, life)
                        world.apply()
                        task_status.started()
                        await self._leave.wait()
                        nursery.cancel_scope.cancel()
        finally:
            life.ended = trio.current_time()
            self.ended.set()
            world.apply()

    def peers(self) -> Iterator[int]:
        """The other hosts."""
        yield from (n for n in range(1, self._world.scenario.hosts + 1) if n != self.host)

    async def join(self, life: Life, peer: int) -> None:
        """Add a host, with its links."""
        scenario = self._world.scenario
        host = life.running.add_host(peer, policy=self.policy)
        life.reach.setdefault(peer, Timeline())
        roams = scenario.roaming and peer == scenario.hosts
        waits = scenario.roaming and self.host == scenario.hosts
        for link in range(scenario.links):
            life.links.setdefault((peer, link), Timeline())
            added = await host.add_link(
                link,
                (self._world.here(self.host, link), DYNAMIC_PORT if roams else PORT),
                None
                if roams
                else (self._world.address(peer, link), DYNAMIC_PORT if waits else PORT),
                ping_interval=scenario.ping_interval,
                pong_timeout=scenario.pong_timeout,
                pong_count=scenario.pong_count,
            )
            if roams:
                added.acl.append(AclEntry.network("10.0.0.0/8"))

    @staticmethod
    async def remove(life: Life, peer: int) -> None:
        """Remove a host, and keep what was counted of it."""
        host = life.running.hosts[peer]
        links = list(host.links.values())
        state = life.running._runtime.handle.hosts[peer]  # pyright: ignore[reportPrivateUsage]
        life.forgotten += state.receive_lane.count
        await host.remove()
        life.gone += [link.status.stats for link in links]

    async def wait_confirmed(self, slot: int) -> None:
        """Wait until the hosts it reaches have answered in the crypto slot, or it has ended."""
        while (life := self.life) is not None and any(  # noqa: ASYNC110  # it has no event
            host.status.reachable and not host.confirmed(slot)
            for host in life.running.hosts.values()
        ):
            # The host tells nobody of that.
            await trio.sleep(0.1)

    async def _watch(self, life: Life, task_status: trio.TaskStatus[None]) -> None:
        async with life.running.events() as events:
            task_status.started()
            async for event in events:
                self._note(life, event)

    @staticmethod
    def _note(life: Life, event: Event) -> None:
        now = trio.current_time()
        match event:
            case HostStatusChanged(host, reachable):
                life.reach[host].set(now, reachable)
            case LinkStatusChanged(host, link, connected):
                life.links[host, link].set(now, connected)
            case _:
                pass

    @staticmethod
    async def _read(life: Life, channel: Channel) -> None:
        while True:
            messages = await channel.receive_many()
            now = trio.current_time()
            life.receipts += [Receipt(now, channel.channel, message) for message in messages]

    async def _talk(self, life: Life) -> None:
        talker = _new_talker(life)
        while True:
            await trio.sleep(self._rng.expovariate(self._world.scenario.traffic))
            await self._world.talking.wait()
            await self._say(life, talker)
            if self.skip:
                # Copies of what it said are still on their way.
                await self._waste(life)
                await self._say(life, talker)

    def flood(self, host: int | None, count: int, sizes: Sequence[int]) -> None:
        """Send many messages to a host, or to everybody."""
        life = self.life
        if life is not None and self._nursery is not None:
            self._nursery.start_soon(self._flood, life, host, count, sizes)

    async def _flood(self, life: Life, host: int | None, count: int, sizes: Sequence[int]) -> None:
        talker, dice, channel = _new_talker(life), self._dice, self._dice.randrange(CHANNELS)
        to = None if host is None else frozenset({host})
        recipients = None if self._world.scenario.filters or to is None else sorted(to)
        while count > 0:
            some = min(count, dice.choice((1, 2, 10, 100, 1000, 3000)))
            count -= some
            call = self._call(life, talker, one=some == 1)
            datas = [
                self._record(life, call, to, channel, wide=False, sizes=sizes) for _ in range(some)
            ]
            await self._make(life, call, self._channels[channel], datas, recipients)

    @staticmethod
    def _call(life: Life, talker: int, *, one: bool, sync: bool = False) -> Call:
        call = Call((life.host, life.number), talker, trio.current_time(), one=one, sync=sync)
        life.calls[call] = None
        return call

    async def _make(
        self,
        life: Life,
        call: Call,
        channel: Channel,
        datas: Sequence[bytes],
        to: Sequence[int] | None,
    ) -> None:
        """Send messages, maybe for as long only as there is time for that."""
        unknown = False
        patience = math.inf
        hurried = self._world.scenario.hurried
        if hurried and self._dice.random() < hurried:
            patience = self._dice.choice((0.0, 0.001, 0.1, 1.0, 10.0))
        with trio.move_on_after(patience) as scope:
            if call.sync:
                try:
                    await channel.send_sync(datas[0], to=to)
                except (SendError, UnknownHostError):
                    name = read_name(datas[0])
                    assert name is not None
                    ledger = self._world.ledger
                    ledger[name] = attrs.evolve(ledger[name], refused=True)
            else:
                try:
                    if len(datas) == 1:
                        await channel.send(datas[0], to=to)
                    else:
                        await channel.send_many(datas, to=to)
                except UnknownHostError:
                    # One of them was removed: nobody gets it.
                    unknown = True
        call.cancelled = scope.cancelled_caught or unknown
        call.done = trio.current_time()
        del life.calls[call]

    async def _waste(self, life: Life) -> None:
        """Use up numbers, as messages do that others get."""
        handle = life.running._runtime.handle  # pyright: ignore[reportPrivateUsage]
        skip, self.skip = self.skip, 0
        for used in range(0, skip, BATCH_MESSAGES):
            handle.next_seqs(min(BATCH_MESSAGES, skip - used))
            await trio.lowlevel.checkpoint()

    async def _say(self, life: Life, talker: int) -> None:
        rng = self._rng
        peers = list(self.peers())
        to = None
        if rng.random() < 0.6:
            to = frozenset(rng.sample(peers, rng.randint(1, len(peers))))
        channel, meant = rng.randrange(CHANNELS), rng.randrange(CHANNELS)
        filters = self._world.scenario.filters
        if not filters:
            meant = channel
        wide = filters and rng.random() < 0.3
        some = rng.choice((1, 1, 1, 5))
        call = self._call(life, talker, one=some == 1)
        datas = [self._record(life, call, to, meant, wide=wide) for _ in range(some)]
        recipients = None if filters or to is None else sorted(to)
        sender = self._channels[channel]
        if len(datas) == 1 and to is not None and len(to) == 1 and not wide:
            call.sync = rng.random() < 0.3
        await self._make(life, call, sender, datas, recipients)

    def _record(
        self,
        life: Life,
        call: Call,
        to: frozenset[int] | None,
        channel: int,
        *,
        wide: bool,
        must: bool = False,
        sizes: Sequence[int] = SIZES,
    ) -> bytes:
        life.sent += 1
        name = Name(self.host, life.number, life.sent)
        data = make_data(self._rng, name, to, channel, wide=wide, sizes=sizes)
        everybody = frozenset(self.peers())
        self._world.ledger[name] = Sent(
            name=name,
            at=trio.current_time(),
            recipients=everybody if to is None else to,
            channel=channel,
            data=data,
            explicit=to is not None and not wide,
            call=call,
            must=must,
        )
        return data

    async def probe(self) -> None:
        """Send a message to everybody that has to arrive."""
        life = self.life
        assert life is not None
        call = self._call(life, _new_talker(life), one=True)
        data = self._record(life, call, None, 0, wide=False, must=True)
        await self._channels[0].send(data)
        call.done = trio.current_time()
        del life.calls[call]


def _new_talker(life: Life) -> int:
    life.talkers += 1
    return life.talkers
