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
            assert set(attack.drops) == {DropCause.REPLAYED}


async def flood_with_pings(attack: Attack, tap: TappedEnd, pings: list[bytes]) -> None:
    """Play pings of an earlier life: each is answered once, and then few are."""
    link = attack.arena.victim.get_host(PEER).links[0]

    def answers() -> int:
        stats = link.status.stats
        return stats.tx_ping_packets + stats.tx_pong_packets

    def heard() -> int:
        return link.status.stats.rx_ping_packets + attack.drops.get(DropCause.REPLAYED, 0)

    began = trio.current_time()
    before, heard_before = answers(), heard()
    number = 0
    for ping in itertools.cycle(pings):
        number += 1
        tap.inject(ping)
        if number % 20 == 0:
            await wait_for(lambda: heard() >= heard_before + number)  # noqa: B023
            if trio.current_time() > began + 0.25 and attack.heartbeats_go_on():
                break
        assert trio.current_time() < began + PATIENCE
    attack.thrown += number
    own = heard() - heard_before - number
    took = trio.current_time() - began
    # A ping and a pong at most each 10 ms, beside the first answers; and what both hosts send
    # anyway.
    assert answers() - before <= 2 * took / 0.01 + len(pings) + 4 * own + 20
