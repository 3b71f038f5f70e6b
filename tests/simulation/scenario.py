"""What happens to a cluster, as plain data: made of a seed, kept as JSON."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from typing import Any, Final

import attrs

from knet_trio import LinkPolicy

# Seconds in which faults begin. Each act has them, then a time in which those that are left stay
# as they are, then a time without any.
STORM: Final = 40.0
# Seconds in which the last messages of an act arrive, of which some take their time.
LAST_MESSAGES: Final = 3.0
CHANNELS: Final = 3
CIPHERS: Final = (
    ("aes128", "sha1"),
    ("aes192", "md5"),
    ("aes256", "sha256"),
    ("aes256", "sha384"),
    ("aes-256-ctr", "sha256"),
    ("none", "sha512"),
)
# Of model `aead`.
AEAD_CIPHERS: Final = ("aes256-gcm", "chacha20-poly1305", "aes256-gcm-siv")


# Those that are always there, and quick.
MODELS: Final = ("zlib", "lz4", "lz4hc", "bzip2")


class Kind(enum.StrEnum):
    """What can go wrong, or be changed."""

    CUT = "cut"
    PARTITION = "partition"
    DOWN = "down"
    PAUSE = "pause"
    RESTART = "restart"
    DISABLE = "disable"
    MTU = "mtu"
    INTERFACE = "interface"
    MOVE = "move"
    REKEY = "rekey"
    POLICY = "policy"
    COMPRESS = "compress"
    PRIORITY = "priority"
    NUMBERS = "numbers"
    HOLD = "hold"
    RATE = "rate"
    FLOOD = "flood"
    BULK = "bulk"
    REMOVE = "remove"
    RECORDING = "recording"


@attrs.frozen
class Fault:
    """Something that happens to hosts ``a`` and ``b`` on ``link``, and when it is over.

    Seconds are those of the act. ``end`` beyond the storm is the end of the act's faults. ``value``
    and ``flag`` mean something else for each kind.
    """

    kind: Kind = attrs.field(converter=Kind)
    begin: float
    end: float
    a: int = 1
    b: int = 2
    link: int = 0
    value: int = 0
    flag: bool = False


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)


def _numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(numbers)


def _floats(floats: Iterable[float]) -> tuple[float, ...]:
    return tuple(floats)


def _acts(acts: Iterable[Iterable[Fault | dict[str, Any]]]) -> tuple[tuple[Fault, ...], ...]:
    return tuple(
        tuple(fault if isinstance(fault, Fault) else Fault(**fault) for fault in act)
        for act in acts
    )


@attrs.frozen(kw_only=True)
class Scenario:
    """A cluster, its network, and its acts."""

    seed: int
    hosts: int = 2
    links: int = 1
    policies: tuple[str, ...] = attrs.field(converter=_texts, default=())
    cipher: str | None = None
    hash: str = "sha256"
    compress: tuple[str, ...] = attrs.field(converter=_texts, default=())
    ping_interval: float = 1.0
    pong_timeout: float = 2.0
    pong_count: int = 5
    hedge: bool = True
    filters: bool = False
    # Nobody knows the addresses of the last host: it speaks first.
    roaming: bool = False
    mtus: tuple[int, ...] = attrs.field(converter=_numbers, default=())
    black_hole: bool = False
    pmtud_interval: float = 60.0
    latency: float = 0.001
    # What a link takes longer than that.
    delays: tuple[float, ...] = attrs.field(converter=_floats, default=())
    jitter: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    corrupt: float = 0.0
    checksum: bool = True
    # Bytes that the send buffer of a socket, and the queue of an interface or a route, have room
    # for; 0 for more than is ever needed.
    send_buffer: int = 0
    queue: int = 0
    # Messages a second of each host.
    traffic: float = 1.0
    # How many tasks of each host send messages; the share of calls that get only so much time.
    talkers: int = 1
    hurried: float = 0.0
    acts: tuple[tuple[Fault, ...], ...] = attrs.field(converter=_acts, default=())

    @property
    def lossy(self) -> bool:
        """Whether packets get lost though nothing is broken."""
        return self.loss > 0 or self.corrupt > 0

    def latency_of(self, link: int) -> float:
        """What packets take on a link at least, in seconds."""
        return self.latency + (self.delays[link] if self.delays else 0)

    @property
    def reorder_delay(self) -> float:
        """For how long some packets are held back, in seconds."""
        return max(self.latency, 0.02) if self.reorder else 0

    @property
    def trip(self) -> float:
        """The longest that a packet takes, in seconds."""
        return self.latency + max(self.delays, default=0) + self.jitter + self.reorder_delay

    @property
    def patience(self) -> float:
        """Seconds until everybody has noticed everything.

        A link that is young goes down after ten times the pong timeout; one that is down needs its
        pongs, and a path MTU search its probes.
        """
        return (
            11 * self.pong_timeout
            + (self.pong_count + 3) * self.ping_interval
            + 20 * self.trip
            + 15
        )

    def policy(self, host_id: int) -> LinkPolicy:
        """How a host uses its links."""
        return LinkPolicy(self.policies[host_id - 1]) if self.policies else LinkPolicy.PASSIVE

    def deals(self, host_id: int) -> bool:
        """Whether a host ever gives one message to one link and the next to another.

        Then one waits where its link is full, while the other goes.
        """
        policies = list(LinkPolicy)
        return self.policy(host_id) is LinkPolicy.ROUND_ROBIN or any(
            fault.kind is Kind.POLICY
            and fault.a == host_id
            and policies[fault.value] is LinkPolicy.ROUND_ROBIN
            for act in self.acts
            for fault in act
        )

    @property
    def is_aead(self) -> bool:
        """Whether there is never another envelope than that of model ``aead``."""
        return self.cipher in AEAD_CIPHERS and all(
            fault.value for act in self.acts for fault in act if fault.kind is Kind.REKEY
        )

    def compresses(self, host_id: int) -> bool:
        """Whether a host ever compresses: large messages then take their time, at both ends."""
        return bool(self.compress and self.compress[host_id - 1]) or any(
            fault.kind is Kind.COMPRESS and fault.a == host_id and fault.flag
            for act in self.acts
            for fault in act
        )

    @property
    def act_seconds(self) -> float:
        """How long an act takes, in simulated time."""
        return STORM + 2 * self.patience + LAST_MESSAGES

    def to_dict(self) -> dict[str, Any]:
        """Everything but what is as usual, as JSON can have it."""
        written = _unusual(self, keep=("seed",))
        written["acts"] = [
            [_unusual(fault, keep=("kind", "begin", "end")) for fault in act] for act in self.acts
        ]
        return written


def _unusual(record: attrs.AttrsInstance, keep: tuple[str, ...]) -> dict[str, Any]:
    values = attrs.asdict(record, recurse=False)
    return {
        field.name: values[field.name]
        for field in attrs.fields(type(record))
        if field.name in keep or values[field.name] != field.default
    }


def make_scenario(seed: int, hours: float = 0.0) -> Scenario:
    """The scenario of that seed: as many acts as take so many simulated hours, at least one."""
    rng = random.Random(f"scenario {seed}")
    hosts, links = rng.choice((2, 2, 3, 3, 4, 5)), rng.randint(1, 3)
    policies = tuple(policy.value for policy in LinkPolicy)
    same = rng.choice(policies)
    cipher, digest = rng.choice(CIPHERS) if rng.random() < 0.6 else (None, "sha256")
    # Of pings there are many: no more of them than take a few seconds.
    paths = hosts * (hosts - 1) * links
    interval = rng.choice([each for each in (0.1, 0.2, 0.5, 1.0, 2.0) if each >= paths / 40])
    latency = rng.choice((0.0, 0.0005, 0.01, 0.1))
    jitter = rng.choice((0.0, 0.0, 0.005, 0.05))
    delays = tuple(rng.choice((0.0, 0.0, 0.01, 0.1)) for _ in range(links))
    reorder = rng.choice((0.0, 0.0, 0.1))
    trip = latency + max(delays) + jitter + (max(latency, 0.02) if reorder else 0)
    rough = rng.random() < 0.4
    corrupt = rng.choice((0.0, 0.02, 0.1)) if rough else 0.0
    scenario = Scenario(
        seed=seed,
        hosts=hosts,
        links=links,
        policies=tuple(same if rng.random() < 0.7 else rng.choice(policies) for _ in range(hosts)),
        cipher=cipher,
        hash=digest,
        compress=tuple(rng.choice(MODELS) if rng.random() < 0.3 else "" for _ in range(hosts)),
        ping_interval=interval,
        # A link whose pongs may come too late would be up or down by chance.
        pong_timeout=max(interval * rng.choice((2, 3, 5)), 6 * trip),
        pong_count=rng.choice((1, 2, 5)),
        hedge=rng.random() < 0.8,
        filters=rng.random() < 0.3,
        roaming=rng.random() < 0.2,
        mtus=tuple(rng.choice((1500, 1500, 9000, 1280, 700)) for _ in range(links)),
        black_hole=rng.random() < 0.3,
        pmtud_interval=rng.choice((10.0, 60.0)),
        latency=latency,
        delays=delays,
        jitter=jitter,
        duplicate=rng.choice((0.0, 0.0, 0.1)),
        reorder=reorder,
        loss=rng.choice((0.0, 0.02, 0.1, 0.3)) if rough else 0.0,
        burst=rng.choice((1.0, 5.0)),
        corrupt=corrupt,
        # In the clear, altered packets are altered messages.
        checksum=cipher is None or rng.random() < 0.5,
        traffic=rng.choice((0.5, 1.0, 2.0)) / (hosts - 1),
        send_buffer=rng.choice((0, 8_000, 60_000, 400_000)),
        queue=rng.choice((0, 0, 4_000, 30_000)),
        talkers=rng.choice((1, 1, 2)),
        hurried=rng.choice((0.0, 0.3)),
    )
    acts = max(1, round(hours * 3600 / scenario.act_seconds))
    scenario = attrs.evolve(scenario, acts=[_make_act(rng, scenario) for _ in range(acts)])
    return scenario if cipher is None else _add_aead(random.Random(f"aead {seed}"), scenario)


def _add_aead(rng: random.Random, scenario: Scenario) -> Scenario:
    """Have some scenarios begin with model ``aead``, or go over to it; some are never without."""
    if rng.random() < 0.4:
        scenario = attrs.evolve(scenario, cipher=rng.choice(AEAD_CIPHERS), hash="none")
    always = scenario.cipher in AEAD_CIPHERS and rng.random() < 0.7
    acts = [
        [
            attrs.evolve(fault, value=int(always or rng.random() < 0.4))
            if fault.kind is Kind.REKEY
            else fault
            for fault in act
        ]
        for act in scenario.acts
    ]
    if always:
        for act in acts:
            if rng.random() < 0.3:
                act.append(_make_fault(rng, scenario, Kind.REKEY))
                act[-1] = attrs.evolve(act[-1], value=1)
            act += [_make_fault(rng, scenario, Kind.RECORDING) for _ in range(rng.randint(0, 2))]
            act.sort(key=lambda fault: fault.begin)
    return attrs.evolve(scenario, acts=acts)


def _make_act(rng: random.Random, scenario: Scenario) -> tuple[Fault, ...]:
    kinds = [kind for kind in Kind if kind is not Kind.MOVE or scenario.roaming]
    # Only where it can have no effect.
    kinds.remove(Kind.RECORDING)
    if scenario.cipher is None:
        kinds.remove(Kind.REKEY)
    faults = [_make_fault(rng, scenario, rng.choice(kinds)) for _ in range(rng.randint(0, 6))]
    if rng.random() < 0.7:
        faults += _make_crowd(rng, scenario)
    return tuple(sorted(faults, key=lambda fault: fault.begin))


def _make_crowd(rng: random.Random, scenario: Scenario) -> list[Fault]:
    """A host that takes nothing for a while, or little, and many messages for it meanwhile."""
    kind = rng.choice((Kind.HOLD, Kind.HOLD, Kind.RATE, Kind.PAUSE))
    stuck = _make_fault(rng, scenario, kind)
    stuck = attrs.evolve(stuck, flag=rng.random() < 0.8)
    # Its links are up for some time still.
    soon = rng.choice((0.2, 0.8, 3)) * scenario.pong_timeout
    floods = [_make_fault(rng, scenario, Kind.FLOOD) for _ in range(rng.randint(1, 3))]
    removed = _make_fault(rng, scenario, Kind.REMOVE)
    removed = attrs.evolve(
        removed,
        begin=min(STORM, round(stuck.begin + rng.uniform(0, 2 * soon), 3)),
        a=stuck.a,
        b=stuck.b,
    )
    return [
        stuck,
        *([removed] if rng.random() < 0.3 else []),
        *(
            attrs.evolve(
                flood,
                begin=min(STORM, round(stuck.begin + rng.uniform(0, soon), 3)),
                a=stuck.a,
                b=stuck.b if rng.random() < 0.7 else flood.b if flood.b != stuck.a else flood.a,
                value=rng.choice((flood.value, 1300, 2500)),
                flag=rng.random() < 0.5,
            )
            for flood in floods
        ),
    ]


def _make_fault(rng: random.Random, scenario: Scenario, kind: Kind) -> Fault:
    begin = round(rng.uniform(0, STORM), 3)
    lasting = rng.choice((0.05, 0.5, 3.0, 15.0, 1000.0)) * rng.uniform(0.5, 1.5)
    a, b = rng.sample(range(1, scenario.hosts + 1), 2)
    if kind is Kind.MOVE:
        a = scenario.hosts
    value = {
        Kind.MTU: rng.choice((700, 1280, 1400)),
        Kind.INTERFACE: rng.choice((700, 1280, 1400)),
        # Half a window, more than one, more than two forced pings, half of all.
        Kind.NUMBERS: rng.choice((2000, 5000, 5000, 9000, 33000)),
        # Hosts on one side, by their bits.
        Kind.PARTITION: rng.randrange(1, 1 << scenario.hosts) & ~1,
        Kind.POLICY: rng.randrange(3),
        Kind.COMPRESS: rng.randrange(4),
        Kind.PRIORITY: rng.randrange(256),
        # 0: both ways and silent, 1: one way, 2: a router tells.
        Kind.CUT: rng.randrange(3),
        # 0: in good order, 1: killed, 2: the power failed.
        Kind.RESTART: rng.randrange(3),
        # 0: both ways, else one way; the flag: all links.
        Kind.HOLD: rng.randrange(3),
        # Bytes a second, one way.
        Kind.RATE: rng.choice((1_000, 10_000, 100_000)),
        # How many messages; the flag: for everybody.
        Kind.FLOOD: rng.choice((5, 50, 300, 1100, 2500)),
        # How many packets at once; the flag: in another order.
        Kind.RECORDING: rng.choice((1, 5, 50)) if kind is Kind.RECORDING else 0,
        # How many large messages of a host that compresses; the flag: for everybody.
        Kind.BULK: rng.choice((5, 50, 200)),
    }.get(kind, 0)
    return Fault(
        kind=kind,
        begin=begin,
        end=round(begin + lasting, 3),
        a=a,
        b=b,
        link=rng.randrange(scenario.links),
        value=value,
        flag=rng.random() < 0.5,
    )
