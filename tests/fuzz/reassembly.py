"""Of any fragments come the messages that the protocol says, and each buffer holds 64 KiB at most.

The bytes tell what a host sends: messages, fragments, runs of both and pings, and what happens to
it. That is played twice: beside the model of the protocol's rules, which has to agree on each
message and each drop, and on its own, to be weighed.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import (
    MAX_FRAGMENTS,
    MAX_MESSAGE,
    MAX_SEQ,
    Data,
    decode_untrusted,
)
from knet_trio._core.runs import DataRun
from knet_trio.errors import DropCause, PacketError
from tests.core.models import NUMBERS, WINDOW, SourceModel
from tests.fuzz.script import Script

BUFFERS: Final = 3
OPERATIONS: Final = 50
# A message in the making: a list of its fragments, and what Python adds to the bytes of each.
KEEPING: Final = 32 * 1024
# All else: the marks of the window, and what is allocated once and for all.
BESIDES: Final = 128 * 1024

# Steps from the newest number: small ones, and those about the edges of the window.
STEPS: Final = (
    *range(-8, 25),
    *range(-WINDOW - 1, -WINDOW + 2),
    *range(WINDOW - 1, WINDOW + 2),
    NUMBERS // 2 - 1,
    NUMBERS // 2,
    10_000,
    -10_000,
)
# Of payloads: small ones, and those of which some are just a message or just too large for one.
SIZES: Final = (
    *range(1, 9),
    100,
    1000,
    MAX_MESSAGE // MAX_FRAGMENTS,
    MAX_MESSAGE // 3,
    MAX_MESSAGE // 3 + 1,
    MAX_MESSAGE // 2,
    MAX_MESSAGE // 2 + 1,
    MAX_MESSAGE,
)
COUNTS: Final = (*(2, 3, 4, 5, 6, 16) * 5, MAX_FRAGMENTS)

Operation = Callable[[InboundSequence | SourceModel], object]


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    operations = list(parse(Script(data)))
    compare(operations)
    tracemalloc.start()
    try:
        weigh(operations)
    finally:
        tracemalloc.stop()


def compare(operations: list[Operation]) -> None:
    """Play them beside the model."""
    drops: Counter[DropCause] = Counter()
    source = InboundSequence(lambda cause: drops.update((cause,)), BUFFERS)
    model = SourceModel(BUFFERS)
    for operation in operations:
        assert operation(source) == operation(model)
        assert drops == model.drops
        assert source.newest == model.newest
        assert source.pending == model.pending <= BUFFERS


def weigh(operations: list[Operation]) -> None:
    """Play them with an eye on what is held."""
    source = InboundSequence(lambda _: None, BUFFERS)
    for operation in operations:
        operation(source)
        held, _ = tracemalloc.get_traced_memory()
        assert held <= source.pending * (MAX_MESSAGE + KEEPING) + BESIDES, held


def parse(script: Script) -> Iterator[Operation]:
    """What happens, one after the other."""
    for _ in range(OPERATIONS):
        if not script:
            return
        operation = parse_one(script)
        if operation is not None:
            yield operation


def parse_one(script: Script) -> Operation | None:
    """What happens next; None if it is nothing."""
    match script.number() % 16:
        case 0:
            return lambda source: source.clear()
        case 1:
            return lambda source: source.contact_lost()
        case 2:
            buffers = 1 + script.number() % BUFFERS
            return lambda source: source.set_buffers(buffers)
        case 3:
            return ping(script)
        case 4:
            return recorded(script)
        case 5 | 6:
            return message(script)
        case 7 | 8 | 9:
            return messages(script)
        case 10 | 11 | 12:
            return fragments(script)
        case 15:
            return fragments_of_several(script)
        case _:
            return fragment(script)


def number(source: InboundSequence | SourceModel, step: int) -> int:
    """The number so many steps from the newest one that is known."""
    return ((source.newest or 0) + step) % NUMBERS


def ping(script: Script) -> Operation:
    """A ping, which says 0 where the host has sent nothing."""
    step, timed, nothing = script.choose(STEPS), script.flag(), script.flag()
    return lambda source: source.ping_received(0 if nothing else number(source, step), timed=timed)


def recorded(script: Script) -> Operation | None:
    """A packet as it is on the wire."""
    try:
        packet = decode_untrusted(script.chunk())
    except PacketError:
        return None
    return (lambda source: source.receive(packet)) if isinstance(packet, Data) else None


def message(script: Script) -> Operation:
    """A whole message."""
    step, size = script.choose(STEPS), script.choose(SIZES)
    return lambda source: source.receive(
        Data(1, number(source, step), 0, False, 1, 0, 0, bytes(size))
    )


def messages(script: Script) -> Operation:
    """Several of them in a row, which do not go past the last number."""
    step, count, size = script.choose(STEPS), script.choose(COUNTS), script.number()
    return lambda source: source.receive_run(
        DataRun(
            1,
            min(number(source, step), MAX_SEQ + 1 - count),
            0,
            False,
            1,
            0,
            0,
            [bytes(size + 1) for _ in range(count - 1)] + [b"x"],
            1,
        )
    )


def fragment(script: Script) -> Operation:
    """A fragment of a message, of any size."""
    step, count = script.choose(STEPS), script.choose(COUNTS)
    frag_seq, size, kind = 1 + script.number() % count, script.choose(SIZES), script.number()
    return lambda source: source.receive(
        Data(
            1,
            number(source, step),
            kind // 2 % 2,
            kind // 4 % 2 == 1,
            count,
            frag_seq,
            kind % 2,
            bytes(size),
        )
    )


def fragments(script: Script) -> Operation:
    """Several of a message in a row, of one size but for the last one."""
    step, count = script.choose(STEPS), script.choose(COUNTS)
    first = 1 + script.number() % (count - 1)
    some = 2 + script.number() % (count - first)
    size, kind = script.choose(SIZES), script.number()
    last = max(1, size - kind // 8)
    # What a socket gives at once is not larger than this.
    if some * size > 2 * MAX_MESSAGE:
        size = last = 1
    return lambda source: source.receive_run(
        DataRun(
            1,
            number(source, step),
            kind // 2 % 2,
            kind // 4 % 2 == 1,
            count,
            first,
            kind % 2,
            [bytes(size) for _ in range(some - 1)] + [bytes(last)],
            count,
        )
    )


def fragments_of_several(script: Script) -> Operation:
    """Several in a row, all of each message or some; one may be of another size."""
    step, count = script.choose(STEPS), script.choose(COUNTS)
    first, some = 1 + script.number() % count, 2 + script.number() % 63
    size, last, kind = script.choose(SIZES), script.number(), script.number()
    cycle = {1: max(count - 1, first), 2: 1}.get(last // 4 % 8, count)
    if some * size > 2 * MAX_MESSAGE:
        size = 2
    # Of each message the last one may be shorter.
    shorter = max(1, size - last % 4)
    sizes = [shorter if (first + i) % count == 0 else size for i in range(some)]
    if last >= 128:
        sizes[last % some] = 1 + last % 5
    payloads = [bytes(each) for each in sizes]
    run = DataRun(1, 0, kind // 2 % 2, kind // 4 % 2 == 1, count, first, kind % 2, payloads, cycle)
    return lambda source: source.receive_run(
        run._replace(seq=min(number(source, step), MAX_SEQ + 1 - run.message_count))
    )
