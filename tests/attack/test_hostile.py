"""A link in use that is flooded with what is no packet: nothing breaks and nobody else notices.

The flood comes out of the peer's own address, through a relay that the link runs over, so nothing
but its contents tells it from the peer's packets. Here it is not slowed down to what the handle
has counted, as the other floods are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import trio

from knet_trio import CryptoConfig, DropCause, LinkPolicy, open_handle
from knet_trio._core.onwire import (
    Data,
    Ping,
    PmtudProbe,
    PmtudReply,
    Pong,
    encode_data,
    encode_ping,
    encode_pmtud,
    encode_pmtud_reply,
    encode_pong,
)
from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.relay import WireEnd, open_relay
from tests.attack.arena import SECONDS
from tests.cluster import KEY, LOCALHOST, PATIENCE, add_quick_link, join, wait_for

RATE = 10_000
TICK = 0.01

PACKETS = [
    encode_data(Data(2, 77, 0, True, 1, 0, 0, b"x" * 200)),
    encode_data(Data(2, 78, 0, True, 3, 2, 0, b"x" * 200)),
    encode_ping(Ping(2, 0, bytes(16), 0, timed=True)),
    encode_pong(Pong(2, 0, bytes(16), 5, timed=True)),
    encode_pmtud(PmtudProbe(2, 0, 65535, 1200)),
    encode_pmtud_reply(PmtudReply(2, 0, 65535)),
]


def garbage(dice: random.Random) -> Iterator[bytes]:
    """Noise, and good packets cut short or with a bit or two the other way."""
    sealed = make_cipher(CryptoConfig(key=KEY)).seal(PACKETS)
    while True:
        yield dice.randbytes(dice.randrange(1, 200))
        good = dice.choice(PACKETS + sealed)
        yield good[: dice.randrange(len(good))] or b"\0"
        flipped = bytearray(dice.choice(sealed))
        for place in dice.sample(range(len(flipped)), dice.randrange(1, 3)):
            flipped[place] ^= 1 << dice.randrange(8)
        yield bytes(flipped)


async def flood(end: WireEnd, datagrams: Iterator[bytes]) -> int:
    """Let them come out of the wire's end, so many a second; how many there were."""
    ticks = int(max(SECONDS, 1) / TICK)
    start = trio.current_time()
    for tick in range(ticks):
        for _ in range(int(RATE * TICK)):
            end.emit(memoryview(next(datagrams)))
        await trio.sleep_until(start + (tick + 1) * TICK)
    return ticks * int(RATE * TICK)


@pytest.mark.parametrize("policy", [LinkPolicy.ACTIVE, LinkPolicy.PASSIVE])
async def test_a_flooded_link_breaks_nothing_and_takes_nothing_from_the_other(
    policy: LinkPolicy,
) -> None:
    crypto = CryptoConfig(key=KEY)
    async with (
        open_relay(1) as network,
        open_handle(1, crypto=crypto) as a,
        open_handle(2, crypto=crypto) as b,
        trio.open_nursery() as nursery,
    ):
        near, far = network.wires[0]
        to_b, to_a = a.add_host(2, policy=policy), b.add_host(1, policy=policy)
        for host, end in ((to_b, near), (to_a, far)):
            link = await add_quick_link(host, 0, (LOCALHOST, 0), end.address)
            end.plug(link.config.src)
        await join(to_b, to_a, 1)
        # With the passive policy, the messages go over the link that is not flooded.
        to_b.links[1].priority = 1
        with trio.fail_after(PATIENCE):
            for link in (*to_b.links.values(), *to_a.links.values()):
                await link.wait_connected()
        channel = a.open_channel(0)
        receiver = b.open_channel(0, receive_buffer=100_000)
        sent = 0
        done = trio.Event()

        async def stream() -> None:
            nonlocal sent
            while not done.is_set():
                await channel.send(b"%d " % sent + b"x" * (sent % 5000))
                sent += 1
                await trio.sleep(0.005)
            await channel.send(b"end ")

        others = [host.links[1] for host in (to_a, to_b)]
        nursery.start_soon(stream)
        dice = random.Random(1)
        thrown = await flood(far, garbage(dice))
        done.set()
        got: list[int] = []
        with trio.fail_after(PATIENCE):
            async for message in receiver:
                number = message.data.split(b" ")[0]
                if number == b"end":
                    break
                got.append(int(number))
        assert got == list(range(sent))
        # The flooded link may be late with its pongs on a busy machine; the other must not notice.
        assert [link.status.stats.down_count for link in others] == [0, 0]

        def refused() -> int:
            drops = b.statistics().drops
            # Some are packets as they are, cut where nothing is missing.
            return drops[DropCause.NOT_AUTHENTIC] + drops[DropCause.CLEAR_TRAFFIC]

        await wait_for(lambda: refused() == thrown - network.overrun)
        assert "compare key" in to_a.links[0].explain()
