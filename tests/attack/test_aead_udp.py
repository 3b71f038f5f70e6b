"""Recorded packets with model ``aead`` over UDP: the simulated network has the other half."""

from __future__ import annotations

import itertools

import pytest
import trio

from knet_trio import CryptoConfig, DropCause
from knet_trio._core.onwire import Data, Ping
from tests.attack.arena import PEER, SLACK, Attack, TappedEnd, only, open_arena, under_attack
from tests.attack.test_replay import record
from tests.cluster import KEY, PATIENCE, wait_for

CIPHERS = ("aes256-gcm", "chacha20-poly1305", "aes256-gcm-siv")


@pytest.mark.parametrize("cipher", CIPHERS)
async def test_of_this_life_and_of_an_earlier_one(cipher: str) -> None:
    """All that the peer has sent, data, pings, pongs and probes, again and again."""
    async with open_arena(CryptoConfig(KEY, cipher, model="aead")) as arena:
        tape = await record(arena)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(tape))
            assert attack.drops == {DropCause.DUPLICATE: attack.thrown}
        if cipher != CIPHERS[0]:
            return
        # The peer goes on in another life, as after a restart.
        host = arena.victim.get_host(PEER)
        arena.peer.renew()
        pongs = host.links[0].status.stats.rx_pong_packets
        await wait_for(lambda: host.links[0].status.stats.rx_pong_packets > pongs + 2)
        data = only(arena, tape, Data)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(data))
            assert attack.drops == {DropCause.UNCONFIRMED: attack.thrown}
        assert "recordings of an earlier life" in host.links[0].explain()
        pings = only(arena, tape, Ping)
        async with under_attack(arena, SLACK) as attack:
            await flood_with_pings(attack, arena.tap, pings)
            # The pongs that it gets for what the other host never asked are refused there.
            assert attack.drops == {}


async def flood_with_pings(attack: Attack, tap: TappedEnd, pings: list[bytes]) -> None:
    """Play pings of an earlier life: for each, at most two packets of their size go back."""
    stats = attack.arena.victim.get_host(PEER).links[0]

    def answers() -> int:
        counted = stats.status.stats
        return counted.tx_ping_packets + counted.tx_pong_packets

    began = trio.current_time()
    before = answers()
    heard = stats.status.stats.rx_ping_packets
    number = 0
    for ping in itertools.cycle(pings):
        number += 1
        tap.inject(ping)
        if number % 20 == 0:
            await wait_for(lambda: stats.status.stats.rx_ping_packets >= heard + number)  # noqa: B023
            if trio.current_time() > began + 0.25 and attack.heartbeats_go_on():
                break
        assert trio.current_time() < began + PATIENCE
    attack.thrown += number
    own = stats.status.stats.rx_ping_packets - heard - number
    took = trio.current_time() - began
    # A ping of ours at most each 10 ms, beside a pong for each; and what both hosts send anyway.
    assert answers() - before <= number + took / 0.01 + 4 * own + 20
