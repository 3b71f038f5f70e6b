"""What hosts want of each other and what goes wrong meanwhile, as plain data: made of a seed."""

from __future__ import annotations

import enum
import random
from typing import Any, Final

import attrs

from knet_trio import LinkPolicy

STORM: Final = 60.0
"""Seconds in which jobs begin, and faults."""
SETTLE: Final = 5.0
"""Seconds before that, in which hosts come to reach each other."""
MTUS: Final = (600, 700, 1280)


class FaultKind(enum.StrEnum):
    """What goes wrong."""

    CUT = "cut"
    PARTITION = "partition"
    PAUSE = "pause"
    RESTART = "restart"
    MTU = "mtu"
    UNLINK = "unlink"


class JobKind(enum.StrEnum):
    """What a host wants of another."""

    STREAM = "stream"
    REQUEST = "request"
    MESSAGES = "messages"


class Style(enum.StrEnum):
    """How a job is done."""

    PLAIN = "plain"
    # Of streams: who opened it gives it up half-way, or who accepted it does.
    ABORT = "abort"
    DROP = "drop"
    # Of requests: the handler refuses, raises, or waits until it is cancelled.
    REFUSE = "refuse"
    RAISE = "raise"
    WAIT = "wait"


@attrs.frozen(kw_only=True)
class Fault:
    """Something that happens to hosts ``a`` and ``b`` on ``link``.

    ``value`` is for a cut 1 if it is one way, for a partition the hosts of one side as bits, for a
    restart 0 if it is in good order, 1 if it is killed, and 2 if its network goes first.
    """

    kind: FaultKind = attrs.field(converter=FaultKind)
    begin: float
    end: float
    a: int = 1
    b: int = 2
    link: int = 0
    value: int = 0


@attrs.frozen(kw_only=True)
class Job:
    """Something that host ``a`` wants of ``b``.

    ``size`` are the bytes that go there, ``back`` those that come back; of messages, ``back`` is
    how many. The call is cancelled after ``hurry`` seconds, if that is not 0. Who reads a stream
    sleeps for ``pace`` seconds after each piece, who answers a request before it does.
    """

    number: int
    kind: JobKind = attrs.field(converter=JobKind)
    begin: float
    a: int
    b: int
    size: int
    back: int = 0
    hurry: float = 0.0
    pace: float = 0.0
    style: Style = attrs.field(converter=Style, default=Style.PLAIN)


@attrs.frozen(kw_only=True)
class Scenario:
    """Hosts, their network, what goes wrong, and what they want of each other."""

    seed: int
    hosts: int = 2
    links: int = 1
    policy: LinkPolicy = attrs.field(converter=LinkPolicy, default=LinkPolicy.PASSIVE)
    encrypted: bool = False
    patience: float = 10.0
    pong_timeout: float = 1.0
    latency: float = 0.001
    jitter: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    checksum: bool = True
    # Bytes a second of each wire, 0 for any number.
    rate: float = 0.0
    # How many seconds the readers of messages and those who accept streams let pass each time.
    lazy: float = 0.0
    faults: tuple[Fault, ...] = ()
    jobs: tuple[Job, ...] = ()

    @property
    def recovery(self) -> float:
        """Seconds after which what works again is in use again, whatever gets lost by chance."""
        worst = 1 + 20 * max(self.loss, self.corrupt)
        return (2 * self.pong_timeout + 2 + 10 * (self.latency + self.jitter)) * worst

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can have it."""
        return attrs.asdict(self)


def make_scenario(seed: int) -> Scenario:
    """The scenario of that seed."""
    dice = random.Random(f"streams {seed}")
    hosts, links = dice.choice((2, 2, 3, 4)), dice.randint(1, 3)
    rough = dice.random() < 0.7
    loss = dice.choice((0.0, 0.01, 0.05, 0.15, 0.3)) if rough else 0.0
    encrypted = dice.random() < 0.5
    latency = dice.choice((0.0005, 0.005, 0.02, 0.1))
    patience = dice.choice((8.0, 15.0, 30.0))
    scenario = Scenario(
        seed=seed,
        hosts=hosts,
        links=links,
        policy=dice.choice(tuple(LinkPolicy)),
        encrypted=encrypted,
        # Where much gets lost, links are taken for dead now and then.
        patience=30.0 if loss > 0.1 else patience,
        pong_timeout=max(1.0, 10 * latency) * (2 if loss > 0.1 else 1),
        latency=latency,
        jitter=dice.choice((0.0, 0.0, 0.005, 0.03)),
        loss=loss,
        burst=dice.choice((1.0, 1.0, 5.0)),
        reorder=dice.choice((0.0, 0.1, 0.3)) if rough else 0.0,
        duplicate=dice.choice((0.0, 0.1, 0.5)) if rough else 0.0,
        corrupt=dice.choice((0.0, 0.01, 0.05)) if rough else 0.0,
        checksum=dice.random() < 0.2,
        rate=dice.choice((0.0, 0.0, 300_000.0, 1_000_000.0)),
        lazy=dice.choice((0.0, 0.0, 0.05, 0.5)),
    )
    faults = [_make_fault(dice, scenario) for _ in range(dice.choice((0, 1, 2, 4, 6)))]
    jobs = [_make_job(dice, scenario, number) for number in range(dice.randint(5, 25))]
    return attrs.evolve(
        scenario,
        faults=tuple(sorted(faults, key=lambda fault: fault.begin)),
        jobs=tuple(sorted(jobs, key=lambda job: job.begin)),
    )


def _make_fault(dice: random.Random, scenario: Scenario) -> Fault:
    kind = dice.choice(tuple(FaultKind))
    begin = round(dice.uniform(0, STORM), 3)
    lasting = dice.choice((0.1, 1.0, scenario.patience / 2, 1.5 * scenario.patience))
    a, b = dice.sample(range(1, scenario.hosts + 1), 2)
    value = {
        FaultKind.CUT: int(dice.random() < 0.3),
        FaultKind.PARTITION: dice.randrange(1, 1 << scenario.hosts),
        FaultKind.RESTART: dice.randrange(3),
        FaultKind.MTU: dice.choice(MTUS),
    }.get(kind, 0)
    return Fault(
        kind=kind,
        begin=begin,
        end=round(begin + lasting * dice.uniform(0.5, 1.5), 3),
        a=a,
        b=b,
        link=dice.randrange(scenario.links),
        value=value,
    )


def _make_job(dice: random.Random, scenario: Scenario, number: int) -> Job:
    kind = dice.choice(tuple(JobKind))
    a, b = dice.sample(range(1, scenario.hosts + 1), 2)
    most = 30_000 if scenario.loss > 0.1 else 150_000

    def size() -> int:
        return int(dice.choice((0, 1, 100, 1_400, 20_000, most)) * dice.uniform(0.5, 1.5))

    back = dice.randint(1, 40) if kind is JobKind.MESSAGES else size()
    styles = {
        JobKind.STREAM: (*[Style.PLAIN] * 5, Style.ABORT, Style.DROP),
        JobKind.REQUEST: (*[Style.PLAIN] * 4, Style.REFUSE, Style.RAISE, Style.WAIT),
        JobKind.MESSAGES: (Style.PLAIN,),
    }[kind]
    style = dice.choice(styles)
    hurry = round(dice.expovariate(1.0), 3) + 0.001 if dice.random() < 0.2 else 0.0
    if style is Style.WAIT:
        hurry = 1 + round(dice.uniform(0, 5), 3)
    return Job(
        number=number,
        kind=kind,
        begin=round(dice.uniform(0, STORM), 3) if dice.random() < 0.7 else dice.choice((1.0, 20.0)),
        a=a,
        b=b,
        size=size() if kind is not JobKind.MESSAGES else size() // 10,
        back=back,
        hurry=hurry,
        pace=dice.choice((0.0, 0.0, 0.0, 0.01, 0.3)),
        style=style,
    )
