"""A cluster on a simulated network, what is done to both, and what is true of them."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import permutations

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio import CompressConfig, CryptoConfig, LinkPolicy
from knet_trio.testing import Conditions, Fate, Interface, Route, SimulatedNetwork
from knet_trio.testing.conditions import SOCKET_BUFFER
from tests.simulation.messages import BULK_SIZES, SIZES, Name, Sent
from tests.simulation.node import Life, Node
from tests.simulation.scenario import (
    AEAD_CIPHERS,
    CIPHERS,
    MODELS,
    STORM,
    Fault,
    Kind,
    Scenario,
)
from tests.simulation.timeline import Timeline
from tests.simulation.witness import Witness


class Cluster:
    """Everything. ``run`` plays the acts; the model reads the rest."""

    def __init__(self, scenario: Scenario, network: SimulatedNetwork) -> None:
        self.scenario = scenario
        self.network = network
        self.talking = trio.Event()
        self.ledger: dict[Name, Sent] = {}
        self.keys: list[CryptoConfig] = []
        self.slots: dict[int, CryptoConfig] = {}
        self.slot_in_use = 0
        # Whether nothing gets from one host to another over a link; whether a host stands still.
        self.broken: dict[tuple[int, int, int], Timeline] = {}
        self.paused = {host: Timeline() for host in self.hosts}
        self.disabled: dict[tuple[int, int, int], Timeline] = {}
        # Whether what is sent waits on its machine: for as long as that, or for its turn.
        self.held: dict[tuple[int, int, int], Timeline] = {}
        self.slow: dict[tuple[int, int, int], Timeline] = {}
        # Whether a host has removed another.
        self.removed = {way: Timeline() for way in permutations(self.hosts, 2)}
        # When it was last that the receiver, or the sender, got another address; and a link
        # another MTU.
        self.moved: dict[tuple[int, int, int], list[float]] = defaultdict(list)
        self.came_from: dict[tuple[int, int, int], list[float]] = defaultdict(list)
        self.mtu_changed: dict[int, list[float]] = defaultdict(list)
        self._rng = random.Random(f"{scenario.seed} cluster")
        # For who plays back what was recorded.
        self._dice = random.Random(f"{scenario.seed} recordings")
        self._over = trio.Event()
        self._conditions = Conditions()
        self._cut: Counter[tuple[int, int, int]] = Counter()
        self._tells = False
        self._held: Counter[tuple[int, int, int]] = Counter()
        self._rates: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        self._rate: dict[tuple[str, str], float] = {}
        self._down: Counter[tuple[int, int]] = Counter()
        self._paused: Counter[int] = Counter()
        self._disabled: Counter[tuple[int, int, int]] = Counter()
        self._narrowed: dict[int, list[int]] = {link: [] for link in range(scenario.links)}
        self._interfaces: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._busy: set[int] = set()
        self._rekeying = False
        self._moves = 0
        self._places: dict[str, tuple[int, int]] = {}
        self._at: dict[tuple[int, int], str] = {}
        for host in self.hosts:
            for link in range(scenario.links):
                self._place(host, link, self.address(host, link))
        for a, b, link in self.ways():
            self.broken[a, b, link] = Timeline()
            self.disabled[a, b, link] = Timeline()
            self.held[a, b, link] = Timeline()
            self.slow[a, b, link] = Timeline()
        if scenario.cipher is not None:
            self._make_key(scenario.cipher, scenario.hash)
            self.slots, self.slot_in_use = {1: self.keys[0]}, 1
        self.nodes = {host: Node(self, host) for host in self.hosts}
        records = any(fault.kind is Kind.RECORDING for act in scenario.acts for fault in act)
        self.witness = Witness(self._locate, self.keys, records=records)
        network.trace = self.witness.see

    @property
    def hosts(self) -> range:
        """The ids of the hosts."""
        return range(1, self.scenario.hosts + 1)

    def ways(self) -> Iterator[tuple[int, int, int]]:
        """From whom, to whom, over which link."""
        for a, b in permutations(self.hosts, 2):
            for link in range(self.scenario.links):
                yield a, b, link

    def lives(self) -> Iterator[Life]:
        """Those that go on."""
        for node in self.nodes.values():
            if node.life is not None:
                yield node.life

    def address(self, host: int, link: int) -> str:
        """Where a host binds a link."""
        return f"10.{link}.0.{host}"

    def here(self, host: int, link: int) -> str:
        """Where a link of a host is now."""
        return self._at[host, link]

    # What is true.

    def works(self, a: int, b: int, link: int) -> bool:
        """Whether both ends can find a link to be up."""
        return (
            not self.broken[a, b, link].now
            and not self.broken[b, a, link].now
            and not (self._paused[a] or self._paused[b])
            and not (self._disabled[a, b, link] or self._disabled[b, a, link])
        )

    def is_slow(self, a: int, b: int, link: int) -> bool:
        """Whether pings and pongs may come too late."""
        return self.slow[a, b, link].now or self.slow[b, a, link].now

    def is_stuck(self, a: int, b: int, begin: float, end: float) -> bool:
        """Whether messages for a host had to wait at some time."""
        return self.paused[a].ever(True, begin, end) or any(
            waits[a, b, link].ever(True, begin, end)
            for waits in (self.held, self.slow)
            for link in range(self.scenario.links)
        )

    def reaches(self, a: int, b: int) -> bool:
        """Whether one host can find another to be reachable."""
        return any(self.works(a, b, link) for link in range(self.scenario.links))

    def _locate(self, address: str, time: float) -> tuple[int, int, int] | None:
        place = self._places.get(address)
        if place is None:
            return None
        host, link = place
        return host, self.nodes[host].life_at(time), link

    def _place(self, host: int, link: int, address: str) -> None:
        self._places[address] = host, link
        self._at[host, link] = address

    # What is done.

    async def start(self, nursery: trio.Nursery) -> None:
        """Have all hosts begin their first lives."""
        self.calm(rough=False)
        for node in self.nodes.values():
            await nursery.start(node.live)

    def calm(self, *, rough: bool) -> None:
        """Nothing gets lost by chance, unless ``rough``."""
        scenario = self.scenario
        self._conditions = Conditions(
            latency=scenario.latency,
            jitter=scenario.jitter,
            duplicate=scenario.duplicate,
            reorder=scenario.reorder,
            reorder_delay=scenario.reorder_delay,
            black_hole=scenario.black_hole,
            checksum=scenario.checksum,
            loss=scenario.loss if rough else 0.0,
            burst=scenario.burst,
            corrupt=scenario.corrupt if rough else 0.0,
        )
        self.apply()

    async def act(
        self, nursery: trio.Nursery, faults: tuple[Fault, ...], settled: Callable[[], None]
    ) -> None:
        """Have the faults happen, and then undo what is left of them.

        ``settled`` is called before that, when all has been as it is for long enough.
        """
        self._over = trio.Event()
        began = trio.current_time()
        async with trio.open_nursery() as storm:
            for fault in faults:
                storm.start_soon(self._fault, nursery, fault, began)
            await trio.sleep_until(began + STORM + self.scenario.patience)
            await wait_all_tasks_blocked()
            settled()
            self._over.set()

    async def _fault(self, nursery: trio.Nursery, fault: Fault, began: float) -> None:
        await trio.sleep_until(began + fault.begin)
        if fault.kind is Kind.REKEY:
            await self._rekey(fault)
        elif fault.kind is Kind.RESTART:
            await self._restart(nursery, fault, began)
        elif fault.kind is Kind.REMOVE:
            await self._remove(fault, began)
        elif fault.kind is Kind.RECORDING:
            await self._play_recordings(fault, began)
        elif not self._change(fault):
            self._count(fault, 1)
            if fault.end < STORM:
                await trio.sleep_until(began + fault.end)
            else:
                await self._over.wait()
            self._count(fault, -1)

    def _change(self, fault: Fault) -> bool:
        """Do what has no end; False if the fault is of another kind."""
        node = self.nodes[fault.a]
        life = node.life
        match fault.kind:
            case Kind.POLICY:
                node.policy = list(LinkPolicy)[fault.value]
                if life is not None:
                    for host in life.running.hosts.values():
                        host.policy = node.policy
            case Kind.COMPRESS:
                node.compress = MODELS[fault.value] if fault.flag else ""
                if life is not None:
                    config = CompressConfig(node.compress) if node.compress else None
                    life.running.set_compress(config)
            case Kind.PRIORITY:
                if life is not None and fault.b in life.running.hosts:
                    life.running.hosts[fault.b].links[fault.link].priority = fault.value
            case Kind.MOVE:
                self._moves += 1
                address = f"10.{fault.link}.{1 + self._moves // 250}.{1 + self._moves % 250}"
                self._let_go(fault.a, fault.link)
                self.network.move(self._at[fault.a, fault.link], address)
                self._place(fault.a, fault.link, address)
                self.apply()
                for other in self.nodes[fault.a].peers():
                    self.moved[other, fault.a, fault.link].append(trio.current_time())
                    self.came_from[fault.a, other, fault.link].append(trio.current_time())
            case Kind.NUMBERS:
                node.skip = fault.value
            case Kind.FLOOD:
                count = fault.value
                sizes = SIZES if count <= 50 else (0, 100)
                node.flood(None if fault.flag else fault.b, count, sizes)
            case Kind.BULK:
                # Else they are many fragments, of which a host keeps only so many.
                if node.compress:
                    node.flood(None if fault.flag else fault.b, fault.value, BULK_SIZES)
            case _:
                return False
        return True

    def _count(self, fault: Fault, step: int) -> None:
        """Begin a fault, or end it."""
        a, b, link = fault.a, fault.b, fault.link
        match fault.kind:
            case Kind.CUT:
                self._cut[a, b, link] += step
                if fault.value != 1:
                    self._cut[b, a, link] += step
                self._tells = fault.value == 2
            case Kind.PARTITION:
                for one, other, each in self.ways():
                    if (fault.value >> one & 1) != (fault.value >> other & 1):
                        self._cut[one, other, each] += step
            case Kind.HOLD:
                for each in range(self.scenario.links) if fault.flag else (link,):
                    self._held[a, b, each] += step
                    if not fault.value:
                        self._held[b, a, each] += step
            case Kind.RATE:
                rates = self._rates[a, b, link]
                if step > 0:
                    rates.append(fault.value)
                else:
                    rates.remove(fault.value)
            case Kind.DOWN:
                self._down[a, link] += step
            case Kind.PAUSE:
                # What waits in a socket is lost if its key is gone meanwhile.
                if step > 0 and self._rekeying:
                    return
                self._paused[a] = max(0, self._paused[a] + step)
            case Kind.DISABLE:
                self._disabled[a, b, link] += step
            case Kind.MTU | Kind.INTERFACE:
                narrow = fault.kind is Kind.MTU
                mtus = self._narrowed[link] if narrow else self._interfaces[a, link]
                if step > 0:
                    mtus.append(fault.value)
                else:
                    mtus.remove(fault.value)
                self.mtu_changed[link].append(trio.current_time())
            case _:
                raise AssertionError(fault)
        self.apply()

    def _mtus(self) -> tuple[int, ...]:
        return self.scenario.mtus or (1500,) * self.scenario.links

    def apply(self) -> None:
        """Have the network and the handles be as they should."""
        now = trio.current_time()
        network = self.network
        for (host, link), address in self._at.items():
            if self._down[host, link]:
                network.take_down(address)
            else:
                network.bring_up(address)
            if self._paused[host]:
                network.pause(address)
            else:
                network.resume(address)
            mtu = min([max(1500, self._mtus()[link]), *self._interfaces[host, link]])
            interface = Interface(
                mtu=mtu,
                send_buffer=self.scenario.send_buffer or SOCKET_BUFFER,
                queue=self.scenario.queue or math.inf,
            )
            if network.get_interface(address) != interface:
                network.set_interface(address, interface)
        for host, paused in self.paused.items():
            paused.set(now, bool(self._paused[host]))
        mtus = [min([mtu, *self._narrowed[link]]) for link, mtu in enumerate(self._mtus())]
        for a, b, link in self.ways():
            here, there = self._at[a, link], self._at[b, link]
            latency = self.scenario.latency_of(link)
            conditions = attrs.evolve(self._conditions, mtu=mtus[link], latency=latency)
            if network.get_wire(here, there) != conditions:
                network.set_wire(here, there, conditions, one_way=True)
            if self._cut[a, b, link]:
                network.cut(here, there, one_way=True, tells=self._tells)
            else:
                network.mend(here, there, one_way=True)
            self._let_wait(a, b, link)
            self._enable(a, b, link)
            self.disabled[a, b, link].set(now, bool(self._disabled[a, b, link]))
            broken = bool(
                self._cut[a, b, link]
                or self._held[a, b, link]
                or self._down[a, link]
                or self._down[b, link]
                or not (self._has(a, b) and self._has(b, a))
            )
            self.broken[a, b, link].set(now, broken)
        for (a, b), removed in self.removed.items():
            removed.set(now, self.nodes[a].life is not None and not self._has(a, b))

    def _has(self, a: int, b: int) -> bool:
        """Whether a host runs and has another."""
        life = self.nodes[a].life
        return life is not None and b in life.running.hosts

    def _let_wait(self, a: int, b: int, link: int) -> None:
        """Have what one host sends to another wait on its machine, or go on."""
        now = trio.current_time()
        network, here, there = self.network, self._at[a, link], self._at[b, link]
        rate = min(self._rates[a, b, link], default=math.inf)
        if self._rate.get((here, there), math.inf) != rate:
            self._rate[here, there] = rate
            network.set_route(here, there, Route(rate=rate))
        if self._held[a, b, link]:
            network.hold(here, there, one_way=True)
        else:
            network.release(here, there, one_way=True)
        self.held[a, b, link].set(now, bool(self._held[a, b, link]))
        self.slow[a, b, link].set(now, rate < math.inf)

    def _let_go(self, host: int, link: int) -> None:
        """Have nothing wait for an address, or there, that is going to be another."""
        here = self._at[host, link]
        for other in self.nodes[host].peers():
            there = self._at[other, link]
            self.network.release(here, there)
            for way in ((here, there), (there, here)):
                if self._rate.pop(way, math.inf) < math.inf:
                    self.network.set_route(*way, None)

    def _enable(self, a: int, b: int, link: int) -> None:
        life = self.nodes[a].life
        peer = None if life is None else life.running.hosts.get(b)
        if peer is not None and link in peer.links:
            enabled = not self._disabled[a, b, link]
            if peer.links[link].enabled != enabled:
                # All handles end at the same time, and one of them is the first to say so.
                with suppress(trio.ClosedResourceError):
                    peer.links[link].enabled = enabled

    async def _restart(self, nursery: trio.Nursery, fault: Fault, began: float) -> None:
        host = fault.a
        if host in self._busy:
            return
        self._busy.add(host)
        node = self.nodes[host]
        links = range(self.scenario.links)
        if fault.value == 2:
            # The power fails: nobody answers for it any more.
            for link in links:
                self._down[host, link] += 1
        node.leave(kill=fault.value > 0)
        await node.ended.wait()
        if fault.end < STORM:
            await trio.sleep_until(max(trio.current_time(), began + fault.end))
        else:
            await self._over.wait()
        if fault.value == 2:
            for link in links:
                self._down[host, link] -= 1
        for link in links:
            self._let_go(host, link)
            self._place(host, link, self.address(host, link))
        for other in node.peers():
            for link in links:
                # Back from where it has moved to.
                self.came_from[host, other, link].append(trio.current_time())
                self.moved[other, host, link].append(trio.current_time())
        if fault.flag:
            # The network is there before the program is.
            self.apply()
        await nursery.start(node.live)
        self._busy.discard(host)

    async def _remove(self, fault: Fault, began: float) -> None:
        """Have a host remove another, and add it again."""
        a, b = fault.a, fault.b
        node = self.nodes[a]
        life = node.life
        if life is None or a in self._busy or self._paused[a] or not self._has(a, b):
            return
        if self.scenario.roaming and a == self.scenario.hosts:
            # Its sockets have moved with it, which those of a real system cannot.
            return
        self._busy.add(a)
        await node.remove(life, b)
        self._busy.discard(a)
        self.apply()
        if fault.end < STORM:
            await trio.sleep_until(max(trio.current_time(), began + fault.end))
        else:
            await self._over.wait()
        if a in self._busy or node.life is not life or self._has(a, b):
            # It started again meanwhile, with all hosts.
            return
        self._busy.add(a)
        await node.join(life, b)
        self._busy.discard(a)
        self.apply()

    async def _play_recordings(self, fault: Fault, began: float) -> None:
        """Send packets of this act once more, as they were sent, again and again."""
        dice, tape = self._dice, self.witness.tape
        while (now := trio.current_time()) < began + min(fault.end, STORM):
            start = dice.randrange(max(1, len(tape)))
            piece = tape[start : start + fault.value]
            if fault.flag:
                dice.shuffle(piece)
            for record in piece:
                if self.network.inject(record.data, record.source, record.destination):
                    self.witness.see(record._replace(ended=now, fate=Fate.DELIVERED), again=True)
            await trio.sleep(dice.choice((0.01, 0.2, 1.0)) * fault.value / 5)

    async def _rekey(self, fault: Fault) -> None:
        if self._rekeying or any(self._paused.values()):
            return
        self._rekeying = True
        old = self.slot_in_use
        new = 3 - old
        last = self.keys[0]
        cipher, digest = last.cipher, last.hash
        if fault.value and (fault.flag or last.model != "aead"):
            cipher = self._rng.choice(AEAD_CIPHERS)
        elif not fault.value and (fault.flag or last.model == "aead"):
            cipher, digest = self._rng.choice(CIPHERS)
        self.slots[new] = self._make_key(cipher, digest)
        for life in self._each_in_turn():
            life.running.set_crypto(self.slots[new], new)
        await trio.sleep(1)
        if fault.value:
            for node in self.nodes.values():
                await node.wait_confirmed(new)
        self.slot_in_use = new
        for life in self._each_in_turn():
            life.running.use_crypto(new)
        # Longer than anything is on its way that does not have to wait.
        await trio.sleep(5)
        self.witness.withdrawn.add(self.slots[old].key)
        del self.slots[old]
        for life in self._each_in_turn():
            life.running.set_crypto(None, old)
        self._rekeying = False

    def _each_in_turn(self) -> list[Life]:
        lives = list(self.lives())
        self._rng.shuffle(lives)
        return lives

    def _make_key(self, cipher: str, digest: str) -> CryptoConfig:
        seed = f"{self.scenario.seed} key {len(self.keys)}".encode()
        key = hashlib.sha512(seed).digest() * 2
        if cipher in AEAD_CIPHERS:
            config = CryptoConfig(key, cipher, model="aead")
        else:
            config = CryptoConfig(key, cipher, digest)
        # The witness tries the newest first.
        self.keys.insert(0, config)
        return config
