"""What becomes of real packets that somebody has recorded and sends again: docs/security.md.

The attacker has no key, and lets what he recorded come out of the peer's own address. Some of it
nobody can tell from a host that starts again; those tests are named for what happens then.
"""

from __future__ import annotations

import itertools

import trio

from knet_trio import CryptoConfig, DropCause, Handle, open_handle
from knet_trio._core.inbound import InboundSequence
from knet_trio._core.onwire import MAX_SEQ, TYPE_DATA, Data, Ping, PmtudReply, Pong
from knet_trio._core.window import WINDOW_SIZE
from knet_trio._crypto.envelope import make_cipher
from tests.attack.arena import (
    CHANNEL,
    CRYPTO,
    PEER,
    SLACK,
    STRANGER_ADDRESS,
    VICTIM,
    Arena,
    TappedEnd,
    both,
    only,
    open_arena,
    open_socket,
    open_wire,
    pings_and_pongs,
    under_attack,
)
from tests.cluster import (
    KEY,
    LOCALHOST,
    PATIENCE,
    add_quick_link,
    receive,
    wait_dropped,
    wait_for,
)
from tests.drops import counted


async def record(arena: Arena, messages: int = 20) -> list[bytes]:
    """A stretch of what the peer sends: messages, large ones too, pings and pongs."""
    link = arena.victim.get_host(PEER).links[0]
    with arena.tap.recording() as tape:
        sent = [b"%d" % i * (1 + 5000 * (i % 4)) for i in range(messages)]
        await arena.outbox.send_many(sent)
        assert await receive(arena.inbox, messages) == sent
        await wait_for(lambda: pings_and_pongs(arena, tape) >= 4)
    assert link.status.connected
    return tape


# Within the window.


@both
async def test_messages_of_late_are_delivered_once(crypto: CryptoConfig | None) -> None:
    async with open_arena(crypto) as arena:
        tape = only(arena, await record(arena), Data)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(tape))
            assert attack.drops == {DropCause.DUPLICATE: attack.thrown}


@both
async def test_pongs_prove_nothing_the_second_time(crypto: CryptoConfig | None) -> None:
    async with open_arena(crypto) as arena:
        tape = only(arena, await record(arena), Pong)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(tape))
            assert attack.drops == {DropCause.UNEXPECTED_PONG: attack.thrown}


@both
async def test_path_mtu_replies_prove_nothing_the_second_time(crypto: CryptoConfig | None) -> None:
    """Nor in the next search, which asks about the same size, of a path that is narrower now."""
    async with open_arena(crypto) as arena:
        link = arena.victim.get_host(PEER).links[0]
        replies = link.status.stats.rx_pmtu_packets
        with arena.tap.recording() as tape:
            # Search again.
            arena.victim.mtu = None
            await wait_for(lambda: link.status.stats.rx_pmtu_packets > replies)
        recorded = only(arena, tape, PmtudReply)
        assert recorded
        assert link.status.mtu > 60000
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(recorded))
            assert attack.drops == {DropCause.UNEXPECTED_PMTUD_REPLY: attack.thrown}
        arena.network.mtu = 1500
        before = arena.victim.statistics().drops.get(DropCause.UNEXPECTED_PMTUD_REPLY, 0)
        arena.victim.mtu = None
        thrown = 0
        # What was known stays until the search has ended, which finds the narrower path.
        with trio.fail_after(PATIENCE):
            while link.status.mtu > 1500:
                for datagram in recorded:
                    arena.tap.inject(datagram)
                    thrown += 1
                await trio.sleep(0.01)
        assert link.status.mtu > 1300
        await wait_dropped(arena.victim, DropCause.UNEXPECTED_PMTUD_REPLY, before + thrown)


@both
async def test_pings_that_once_said_that_the_peer_begins_say_it_no_more(
    crypto: CryptoConfig | None,
) -> None:
    async with open_arena(crypto) as arena:
        with arena.tap.recording() as tape:
            await wait_for(lambda: len(only(arena, tape, Ping)) >= 3)
        beginning = only(arena, tape, Ping)
        messages = only(arena, await record(arena), Data)
        async with under_attack(arena, SLACK) as attack:
            # Had one of them an effect, the messages after it would be delivered again.
            await attack.flood(arena.tap.inject, itertools.cycle(beginning + messages))
            assert set(attack.drops) == {DropCause.REPLAYED, DropCause.DUPLICATE}


@both
async def test_other_pings_are_answered_and_change_nothing(crypto: CryptoConfig | None) -> None:
    async with open_arena(crypto) as arena:
        await record(arena, 100)
        tape = await record(arena)
        pings, messages = only(arena, tape, Ping), only(arena, tape, Data)
        link = arena.victim.get_host(PEER).links[0]
        async with under_attack(arena, SLACK) as attack:

            def done() -> int:
                return attack.dropped + link.status.stats.rx_ping_packets

            await attack.flood(arena.tap.inject, itertools.cycle(pings + messages), done)
            assert set(attack.drops) == {DropCause.DUPLICATE}


@both
async def test_forced_pings_start_nothing_afresh(crypto: CryptoConfig | None) -> None:
    """They do where no message came between two of them, which an attacker can see to."""
    async with open_arena(crypto) as arena:
        with arena.tap.recording() as tape:
            for _ in range(9):
                await arena.outbox.send_many([b"x"] * 2000)
                await receive(arena.inbox, 2000)
        forced = [
            datagram
            for packet, datagram in arena.read(tape)
            if isinstance(packet, Ping) and not packet.timed
        ]
        assert len(forced) == 2
        messages = only(arena, await record(arena), Data)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(forced + messages))
            assert set(attack.drops) == {DropCause.REPLAYED, DropCause.DUPLICATE}


# Beyond it.


@both
async def test_a_message_from_before_the_window_is_taken_for_a_host_that_starts_again(
    crypto: CryptoConfig | None,
) -> None:
    async with open_arena(crypto) as arena:
        with arena.tap.recording() as tape:
            for i in range(5):
                await arena.outbox.send_many([b"%d %d" % (i, j) for j in range(1000)])
                await receive(arena.inbox, 1000)
        messages = only(arena, tape, Data)
        before = counted(arena.victim.statistics().drops)
        arena.tap.inject(messages[0])
        assert await receive(arena.inbox, 1) == [b"0 0"]
        # Once, until the peer goes on; and what the peer goes on with is all delivered, once.
        arena.tap.inject(messages[0])
        await wait_dropped(arena.victim, DropCause.DUPLICATE)
        fresh = [b"fresh %d" % i for i in range(100)]
        await arena.outbox.send_many(fresh)
        assert await receive(arena.inbox, 100) == fresh
        # What was delivered just before can be delivered again now: its marks are gone.
        arena.tap.inject(messages[-1])
        assert await receive(arena.inbox, 1) == [b"4 999"]
        after = counted(arena.victim.statistics().drops)
        assert set(after) - set(before) == {DropCause.DUPLICATE}


def test_a_message_of_65536_before_is_taken_for_the_one_with_its_number_now() -> None:
    """A number says no more than that: so keys have to change before the numbers come again."""
    dropped: list[DropCause] = []
    source = InboundSequence(dropped.append)

    def take(seq: int, payload: bytes) -> bytes | None:
        return source.receive(Data(PEER, seq, 0, False, 1, 0, CHANNEL, payload))

    for seq in range(1, MAX_SEQ + 1):
        assert take(seq, b"old") == b"old"
    for seq in range(1, 11):
        assert take(seq, b"new") == b"new"
    # Of those in the window some are of the round before. All are known.
    assert [take(seq, b"old") for seq in (5, 10, MAX_SEQ, 10 + MAX_SEQ + 2 - WINDOW_SIZE)] == (
        [None] * 4
    )
    assert dropped == [DropCause.DUPLICATE] * 4
    # What comes before its time takes the place of the message that has this number now.
    assert take(11, b"old") == b"old"
    assert take(11, b"new") is None
    assert take(12, b"new") == b"new"


# Who has started again knows nothing of what was before.


async def meet(victim: Handle, peer: Handle, far: TappedEnd, near: TappedEnd) -> None:
    """A link over that wire."""
    to_peer, to_victim = victim.add_host(PEER), peer.add_host(VICTIM)
    for host, end in ((to_peer, far), (to_victim, near)):
        end.plug((await add_quick_link(host, 0, (LOCALHOST, 0), end.address)).config.src)
    with trio.fail_after(PATIENCE):
        await to_peer.wait_reachable()
        await to_victim.wait_reachable()


async def test_a_receiver_that_starts_again_takes_what_it_had_before_once() -> None:
    async with open_wire() as (_, far, near), open_handle(PEER, crypto=CRYPTO) as peer:
        async with open_handle(VICTIM, crypto=CRYPTO) as victim:
            await meet(victim, peer, far, near)
            inbox = victim.open_channel(CHANNEL)
            with far.recording() as tape:
                await peer.open_channel(CHANNEL).send(b"once")
                assert await receive(inbox, 1) == [b"once"]
        await peer.get_host(VICTIM).remove()
        cipher = make_cipher(CRYPTO)
        message = next(one for one in tape if cipher.open_untrusted(one)[1] == TYPE_DATA)
        async with open_handle(VICTIM, crypto=CRYPTO) as victim:
            inbox = victim.open_channel(CHANNEL)
            host = victim.add_host(PEER)
            link = await add_quick_link(host, 0, (LOCALHOST, 0), far.address)
            far.plug(link.config.src)
            # Not before the peer has answered: its pongs nobody can have recorded.
            for one in tape:
                far.inject(one)
            await wait_dropped(victim, DropCause.PEER_UNREACHABLE)
            back = await add_quick_link(peer.add_host(VICTIM), 0, (LOCALHOST, 0), near.address)
            near.plug(back.config.src)
            with trio.fail_after(PATIENCE):
                await host.wait_reachable()
            assert not link.status.stats.down_count
            far.inject(message)
            assert await receive(inbox, 1) == [b"once"]
            far.inject(message)
            await wait_dropped(victim, DropCause.DUPLICATE)


async def test_messages_of_a_senders_earlier_life_are_taken_for_those_it_has_not_sent_yet() -> None:
    async with open_wire() as (_, far, near), open_handle(VICTIM, crypto=CRYPTO) as victim:
        inbox = victim.open_channel(CHANNEL)
        async with open_handle(PEER, crypto=CRYPTO) as peer:
            await meet(victim, peer, far, near)
            with far.recording() as tape:
                await peer.open_channel(CHANNEL).send_many([b"old %d" % i for i in range(1, 31)])
                await receive(inbox, 30)
                # It says how far it got, so that the next life's beginning is seen to be one.
                link = victim.get_host(PEER).links[0]
                pinged = link.status.stats.rx_ping_packets
                await wait_for(lambda: link.status.stats.rx_ping_packets >= pinged + 2)
        cipher = make_cipher(CRYPTO)
        messages = [one for one in tape if cipher.open_untrusted(one)[1] == TYPE_DATA]
        async with open_handle(PEER, crypto=CRYPTO) as peer:
            back = await add_quick_link(peer.add_host(VICTIM), 0, (LOCALHOST, 0), near.address)
            near.plug(back.config.src)
            with trio.fail_after(PATIENCE):
                await peer.get_host(VICTIM).wait_reachable()
            channel = peer.open_channel(CHANNEL)
            await channel.send_many([b"new %d" % i for i in range(1, 6)])
            assert await receive(inbox, 5) == [b"new %d" % i for i in range(1, 6)]
            for one in messages[:5]:
                far.inject(one)
            await wait_dropped(victim, DropCause.DUPLICATE, 5)
            far.inject(messages[6])
            assert await receive(inbox, 1) == [b"old 7"]
            # It has taken the place of that number's new message, and of no other's.
            await channel.send_many([b"new 6", b"new 7", b"new 8"])
            assert await receive(inbox, 2) == [b"new 6", b"new 8"]
            await wait_dropped(victim, DropCause.DUPLICATE, 6)


# From elsewhere, to others, under other keys.


@both
async def test_from_another_address_nothing_is_taken(crypto: CryptoConfig | None) -> None:
    with open_socket(STRANGER_ADDRESS) as sock:
        async with open_arena(crypto) as arena:
            tape = await record(arena)
            async with under_attack(arena, SLACK) as attack:
                await attack.flood(
                    lambda one: sock.sendto(one, arena.target), itertools.cycle(tape)
                )
                assert attack.dropped == attack.thrown
                refused = {DropCause.ACCESS_LIST, DropCause.UNKNOWN_ADDRESS}
                assert set(attack.drops) == refused


@both
async def test_what_the_host_itself_has_sent_is_of_nobody_it_knows(
    crypto: CryptoConfig | None,
) -> None:
    async with open_arena(crypto) as arena:
        with arena.back.recording() as tape:
            await arena.inbox.send(b"to the peer")
            assert await receive(arena.outbox, 1) == [b"to the peer"]
            await wait_for(lambda: pings_and_pongs(arena, tape) >= 3)
        own = only(arena, tape, (Data, Ping, Pong))
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(own))
            assert attack.drops == {DropCause.UNKNOWN_HOST: attack.thrown}
        # Nor with a link to itself.
        me = arena.victim.add_host(VICTIM)
        await me.add_link(0, (LOCALHOST, 0), transport="loopback")
        for kind, cause in (
            ((Ping, Pong), DropCause.UNKNOWN_LINK),
            (Data, DropCause.UNKNOWN_ADDRESS),
        ):
            again = only(arena, tape, kind)
            for datagram in again:
                arena.tap.inject(datagram)
            await wait_dropped(arena.victim, cause, len(again))


async def test_a_message_to_another_host_is_taken_by_this_one_too() -> None:
    """No packet says whom it is for: a filter that looks into the message can refuse it."""
    async with (
        open_arena(CRYPTO) as arena,
        open_handle(3, crypto=CRYPTO) as other,
        open_wire() as (_, far, near),
    ):
        to_other, to_peer = arena.peer.add_host(3), other.add_host(PEER)
        for host, end in ((to_peer, far), (to_other, near)):
            end.plug((await add_quick_link(host, 0, (LOCALHOST, 0), end.address)).config.src)
        with trio.fail_after(PATIENCE):
            await to_other.wait_reachable()
            await to_peer.wait_reachable()
        inbox = other.open_channel(CHANNEL)
        with far.recording() as tape:
            await arena.outbox.send(b"for host 3", to=[3])
            assert await receive(inbox, 1) == [b"for host 3"]
        (message,) = only(arena, tape, Data)
        arena.tap.inject(message)
        assert await receive(arena.inbox, 1) == [b"for host 3"]
        arena.tap.inject(message)
        await wait_dropped(arena.victim, DropCause.DUPLICATE)


async def test_a_key_that_is_cleared_ends_what_was_recorded_under_it() -> None:
    async with open_arena(CRYPTO) as arena:
        tape = await record(arena)
        new = CryptoConfig(key=KEY[::-1])
        for handle in (arena.victim, arena.peer):
            handle.set_crypto(new, 2)
        for handle in (arena.victim, arena.peer):
            handle.use_crypto(2)
        # Both keys are good still, so it is the window alone that refuses the messages.
        messages = only(arena, tape, Data)
        for datagram in messages:
            arena.tap.inject(datagram)
        await wait_dropped(arena.victim, DropCause.DUPLICATE, len(messages))
        for handle in (arena.victim, arena.peer):
            handle.set_crypto(None, 1)
        async with under_attack(arena, SLACK) as attack:
            await attack.flood(arena.tap.inject, itertools.cycle(tape))
            assert attack.drops == {DropCause.NOT_AUTHENTIC: attack.thrown}
