"""The three holes found in libknet in 2026, each tried on a handle under its number."""

from __future__ import annotations

import gc
import itertools
import os
import traceback
from collections.abc import Iterator

import pytest
import trio
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from knet_trio import (
    AclEntry,
    BusyError,
    CryptoConfig,
    DropCause,
    InvalidArgumentError,
    KnetError,
    open_handle,
)
from knet_trio._core.onwire import Data, Ping, Pong, encode_data, encode_pong
from tests.attack.arena import (
    INSIDER,
    PEER,
    SLACK,
    STRANGER_ADDRESS,
    both,
    one_of_each,
    open_arena,
    open_insider,
    open_socket,
    under_attack,
)
from tests.cluster import LOCALHOST, connect, receive, wait_for
from tests.logs.test_keys import forms

# So much of a key in a row is found.
WINDOW = 16


def make_config(cipher: str = "aes256", hash: str = "sha256") -> CryptoConfig:
    """One whose key nothing else holds."""
    return CryptoConfig(key=os.urandom(256), cipher=cipher, hash=hash)


def masked(key: bytes) -> list[bytes]:
    """Pieces of the key that are not the key, to look for it by."""
    return [
        bytes(255 - byte for byte in key[start : start + WINDOW])
        for start in range(0, len(key), WINDOW)
    ]


def holders(mask: list[bytes]) -> list[object]:
    """Whatever the program can reach that holds a piece of the key with that mask."""
    gc.collect()
    pieces = [bytes(255 - byte for byte in piece) for piece in mask]
    mine = {*map(id, pieces), id(pieces)}
    return [
        holder
        for holder in gc.get_objects()
        if id(holder) not in mine
        and any(
            isinstance(one, bytes | bytearray) and any(piece in one for piece in pieces)
            for one in (holder, *gc.get_referents(holder))
            if id(one) not in mine
        )
    ]


def envelopes() -> int:
    """How many ciphers there are: what is made of a key lies in them, beyond Python's reach."""
    gc.collect()
    return sum(
        type(one).__module__ == "knet_trio._crypto.envelope" and hasattr(one, "seal")
        for one in gc.get_objects()
        if not isinstance(one, type)
    )


def test_cve_2026_15811_a_key_that_is_kept_would_be_found() -> None:
    config = make_config()
    mask = masked(config.key)
    assert config in holders(mask)
    kept = {"somewhere": [b"..." + config.key[32:64]]}
    del config
    assert kept["somewhere"] in holders(mask)
    kept.clear()
    assert holders(mask) == []


@pytest.mark.parametrize(
    ("cipher", "hash"), [("aes256", "sha256"), ("aes-128-ctr", "sha512"), ("none", "md5")]
)
async def test_cve_2026_15811_no_key_is_kept_after_it_was_replaced(cipher: str, hash: str) -> None:
    before = envelopes()
    config = make_config(cipher, hash)
    old = masked(config.key)
    async with open_handle(1, crypto=config) as a, open_handle(2, crypto=config) as b:
        # The program's own copy is the program's business. The handle's is in what AES works with.
        del config
        assert {type(holder) for holder in holders(old)} <= {AES}
        assert envelopes() == before + 2
        inbox, channel = b.open_channel(0), a.open_channel(0)
        await connect(a, b)
        await channel.send(b"under the old key")
        assert await receive(inbox, 1) == [b"under the old key"]
        config = make_config()
        new = masked(config.key)
        for handle in (a, b):
            handle.set_crypto(config, 2)
        for handle in (a, b):
            handle.use_crypto(2)
            handle.set_crypto(None, 1)
        del config
        assert holders(old) == []
        assert envelopes() == before + 2
        await channel.send(b"under the new key")
        assert await receive(inbox, 1) == [b"under the new key"]
        # In one call, while it is in use; and cleared altogether.
        for handle in (a, b):
            handle.replace_crypto(make_config())
            handle.set_crypto(None, 2)
        assert envelopes() == before + 2
        for handle in (a, b):
            handle.replace_crypto(None)
        assert envelopes() == before
        assert holders(old) == holders(new) == []


async def test_cve_2026_15811_no_key_is_in_what_is_said_of_a_configuration_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1)
    good = make_config()
    key = good.key
    said = [repr(good), str(good)]
    wrong: list[dict[str, str]] = [
        {"cipher": "rot13"},
        {"hash": "crc"},
        {"model": "none such"},
        {"hash": "none"},
    ]
    async with open_handle(1, crypto=good) as handle:
        for names in wrong:
            config = CryptoConfig(key=key, **names)
            for attempt in (handle.replace_crypto, handle.set_crypto):
                with pytest.raises(KnetError) as caught:
                    attempt(config)
                assert isinstance(caught.value, InvalidArgumentError)
                said += [repr(caught.value), *traceback.format_exception(caught.value)]
        with pytest.raises(BusyError) as busy:
            handle.set_crypto(good, 1)
        said += traceback.format_exception(busy.value)
    for size in (1, 4097):
        with pytest.raises(InvalidArgumentError) as refused:
            CryptoConfig(key=(key * 17)[:size])
        said += traceback.format_exception(refused.value)
    text = "\n".join([*said, caplog.text])
    assert "rot13" in text
    pieces = [key[start : start + 8] for start in range(len(key) - 8)]
    assert not [form for piece in pieces for form in forms(piece) if form in text]


def rotating(packets: list[bytes]) -> Iterator[bytes]:
    return itertools.cycle(packets)


@both
async def test_cve_2026_15812_who_may_speak_on_one_link_does_not_act_on_another(
    crypto: CryptoConfig | None,
) -> None:
    """A link that anybody may speak on, with the key, beside links that are for the peer alone."""
    with open_socket(STRANGER_ADDRESS) as sock:
        async with open_arena(crypto) as arena:
            host = arena.victim.get_host(PEER)
            open_link = await host.add_link(2, (LOCALHOST, 0))
            open_link.acl.append(AclEntry.address(STRANGER_ADDRESS))
            targets = [link.config.src for link in (host.links[0], open_link)]

            def throw(packet: bytes) -> None:
                # Through the socket of the link it means, and through that of the one it may use.
                for target in targets:
                    sock.sendto(arena.seal(packet), target)

            async with under_attack(arena, SLACK) as attack:
                control = [packet for link in (0, 1) for packet in one_of_each(PEER, link)[2:]]
                await attack.flood(throw, rotating(control), lambda: attack.dropped // 2)
                assert attack.drops == {DropCause.ACCESS_LIST: 2 * attack.thrown}
                assert "is refused by the access list" in host.links[0].explain()
                assert open_link.status.dst_ipaddr is None
            # On the link that is for everybody, who answers with the key is the peer.
            throw(one_of_each(PEER, 2)[2])
            greeting: list[bytes] = []
            while len(greeting) < 2:
                await trio.lowlevel.wait_readable(sock)
                greeting.append(sock.recv(2048))
            (question,) = [packet for packet, _ in arena.read(greeting) if isinstance(packet, Ping)]
            throw(encode_pong(Pong(PEER, *question[1:])))
            await wait_for(lambda: open_link.status.dst_ipaddr == STRANGER_ADDRESS)


async def test_cve_2026_15812_without_access_lists_no_state_changes_either() -> None:
    """Anybody may speak then, as in C; but a static link's peer is at one address and port."""
    with open_socket(STRANGER_ADDRESS) as sock:
        async with open_arena() as arena:
            arena.victim.access_lists = False
            host = arena.victim.get_host(PEER)

            def done() -> int:
                status = [link.status.stats for link in host.links.values()]
                # The peer's own pings come on top, so this many are done with at least.
                return attack.dropped + sum(one.rx_pmtu_packets for one in status)

            probes_and_answers = [one_of_each(PEER, link)[i] for link in (0, 1) for i in (4, 5, 6)]
            async with under_attack(arena, SLACK) as attack:
                await attack.flood(
                    lambda packet: sock.sendto(packet, arena.target),
                    rotating(probes_and_answers),
                    done,
                )
                assert set(attack.drops) == {DropCause.UNKNOWN_ADDRESS}
                for packet in one_of_each(PEER, 0)[2:4]:
                    sock.sendto(packet, arena.target)


# Whole, first, last and past the end, of none, one, several and all there can be.
OUT_OF_RANGE = [
    (frag_num, frag_seq)
    for frag_num in (0, 1, 2, 3, 127, 128, 253, 254, 255)
    for frag_seq in (0, 1, 2, 3, 4, 127, 128, 129, 253, 254, 255)
    if frag_num == 0 or frag_seq > frag_num or (frag_num > 1 and frag_seq == 0)
]


@both
async def test_cve_2026_15813_fragments_out_of_range_are_refused(
    crypto: CryptoConfig | None,
) -> None:
    """From the peer's own address and from a member with the key, of messages new and begun."""
    packets = [
        encode_data(Data(node, seq, 0, False, frag_num, frag_seq, 0, b"x" * size))
        for node in (PEER, INSIDER)
        for frag_num, frag_seq in OUT_OF_RANGE
        for seq in (0, 1, 65535)
        for size in (1, 1000)
    ]
    assert len(OUT_OF_RANGE) > 40
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        link = arena.victim.get_host(INSIDER).links[0]
        begun = encode_data(Data(INSIDER, 1, 0, False, 3, 1, 0, b"x" * 1000))
        insider.send(begun)
        await wait_for(lambda: link.status.stats.rx_data_packets == 1)
        sealed = [arena.seal(packet) for packet in packets]
        await attack.flood(arena.tap.inject, rotating(sealed))
        await attack.flood(insider.send, rotating(packets))
        assert attack.drops == {DropCause.BAD_FRAGMENT: attack.thrown}


@both
async def test_cve_2026_15813_fragments_that_contradict_each_other_are_refused(
    crypto: CryptoConfig | None,
) -> None:
    """In range each by itself: of a message that has fewer, or larger, or is another one's."""
    inbox_full = b"y" * 1000
    wrong = [(4, 1, 1000), (4, 4, 1000), (2, 2, 1000), (255, 255, 1000), (3, 2, 999), (3, 3, 1001)]
    packets = [
        encode_data(Data(INSIDER, 1, 0, False, frag_num, frag_seq, 9, b"x" * size))
        for frag_num, frag_seq, size in wrong
    ]
    right = [
        encode_data(Data(INSIDER, 1, 0, False, 3, frag_seq, 9, inbox_full))
        for frag_seq in (1, 2, 3)
    ]
    async with (
        open_arena(crypto) as arena,
        open_insider(arena) as insider,
        under_attack(arena, SLACK) as attack,
    ):
        inbox = arena.victim.open_channel(9)
        insider.send(right[0])
        await attack.flood(insider.send, rotating(packets))
        assert attack.drops == {DropCause.BAD_FRAGMENT: attack.thrown}
        for packet in right[1:]:
            insider.send(packet)
        assert await receive(inbox, 1) == [inbox_full * 3]
