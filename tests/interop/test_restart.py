"""One of the two ends and begins anew while messages flow, at the same addresses.

Its sequence numbers begin anew as well, so what it sends looks like what was seen already. The
messages themselves are numbered on over all its lives: one that came twice, or in a later life
than its own, would show.
"""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.interop.c_node import CCrypto
from tests.interop.namespaces import NamespacePair
from tests.interop.pairs import (
    OURS,
    Ours,
    Pair,
    Setup,
    connect,
    finish_ours,
    finish_theirs,
    in_namespaces,
    number_of,
    open_ours,
    open_theirs,
    stream_of,
)

LIMIT: Final = 60.0
SIZE: Final = 1000
INTERVAL: Final = 0.002
SOME: Final = 100
FOREVER: Final = 10**9
LIVES: Final = (0, 1_000_000, 2_000_000)
# So long that no restart is noticed by it.
PATIENCE: Final = 30.0


@pytest.fixture(params=["clear", "encrypted"])
def crypto(request: pytest.FixtureRequest, c_key: bytes) -> CCrypto | None:
    return None if request.param == "clear" else CCrypto(key=c_key)


@pytest.fixture(params=["noticed", "unnoticed"])
def setup(
    request: pytest.FixtureRequest, namespaces: NamespacePair, crypto: CCrypto | None
) -> Setup:
    """One link. Unnoticed: its timeout is so long that no restart takes it down."""
    patience = 1.0 if request.param == "noticed" else PATIENCE
    return in_namespaces(namespaces, crypto=crypto, pong_timeout=patience)


def run_after(numbers: list[int], first: int) -> int:
    """They follow each other without a gap from `first` or later; the number after the last."""
    assert numbers[0] >= first
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers[0] + len(numbers)


def of_life(numbers: list[int], life: int) -> list[int]:
    return [number for number in numbers if life <= number < life + LIVES[1]]


async def receive_to(ours: Ours, last: int) -> list[int]:
    """The numbers of the messages from the C node up to that one."""
    numbers = [-1]
    while numbers[-1] != last:
        numbers.append(number_of((await ours.receive_count(1))[0], SIZE))
    return numbers[1:]


async def test_the_c_node_restarts(namespaces: NamespacePair, setup: Setup) -> None:
    noticed = setup.pong_timeout != PATIENCE
    from_c: list[int] = []
    end = 0
    with trio.fail_after(LIMIT):
        async with open_ours(setup) as ours, stream_of(ours, SIZE, INTERVAL) as stream:
            link = ours.host.links[0]
            heard = 0
            for life in LIVES[:-1]:
                async with open_theirs(setup) as c:
                    namespaces.undrop(0)
                    await connect(ours, c)
                    await c.start_stream(FOREVER, SIZE, interval=INTERVAL, start=life)
                    # Its first message is number 1 of the protocol again.
                    from_c += await receive_to(ours, life + SOME)
                    datas = await c.receive_count(SOME)
                    heard = run_after([number_of(data, SIZE) for data in datas], heard)
                    if not noticed:
                        namespaces.drop(0)
                    await c.kill()
                if noticed:
                    # Its port is closed, and the network says so.
                    await ours.host.wait_unreachable()
                    assert "Connection refused" in link.explain()
            async with open_theirs(setup) as c:
                namespaces.undrop(0)
                await connect(ours, c)
                await c.start_stream(FOREVER, SIZE, interval=INTERVAL, start=LIVES[-1])
                await stream.flow(SOME)
                last = await stream.stop() - 1
                end = LIVES[-1] + await c.stop_stream()
                pair = Pair(setup, ours, c)
                numbers = await finish_ours(pair, SIZE)
                assert run_after(numbers, heard) == last + 1
                from_c += await finish_theirs(pair, SIZE)
                assert link.status.stats.down_count == (len(LIVES) - 1 if noticed else 0)
    for life in LIVES:
        assert run_after(of_life(from_c, life), life) > life + SOME
        assert of_life(from_c, life)[0] == life
    assert from_c == sorted(from_c)
    assert from_c[-1] == end - 1


async def test_our_handle_restarts(namespaces: NamespacePair, setup: Setup) -> None:
    noticed = setup.pong_timeout != PATIENCE
    sent: list[range] = []
    from_us: list[int] = []
    with trio.fail_after(LIMIT):
        async with open_theirs(setup) as c:
            heard = 0
            for life in LIVES:
                async with open_ours(setup) as ours:
                    namespaces.undrop(0)
                    await connect(ours, c)
                    if life == LIVES[0]:
                        await c.start_stream(FOREVER, SIZE, interval=INTERVAL)
                    async with stream_of(ours, SIZE, INTERVAL, life) as stream:
                        await stream.flow(SOME)
                        datas = await ours.receive_count(SOME)
                        heard = run_after([number_of(data, SIZE) for data in datas], heard)
                        if life == LIVES[-1]:
                            await stream.stop()
                            end = await c.stop_stream()
                            pair = Pair(setup, ours, c)
                            assert run_after(await finish_theirs(pair, SIZE), heard) == end
                            from_us = await finish_ours(pair, SIZE)
                        elif not noticed:
                            namespaces.drop(0)
                sent.append(range(life, stream.next))
                if noticed and life != LIVES[-1]:
                    await c.wait_unreachable(OURS)
    # What it was given before it was closed has gone out, as far as anything could.
    for life, numbers in zip(LIVES, sent, strict=True):
        arrived = of_life(from_us, life)
        assert arrived[0] == life
        if noticed or life == LIVES[-1]:
            assert arrived == list(numbers)
        else:
            assert run_after(arrived, life) <= numbers.stop
    assert from_us == sorted(from_us)
