"""What may be wrong, as records."""

from __future__ import annotations

import errno

import attrs
import pytest
from trio.testing import MockClock

from knet_trio._core.onwire import Ping, encode_ping
from knet_trio._crypto.envelope import make_cipher
from knet_trio._state.counters import Unopened
from knet_trio._state.diagnose import diagnose_handle, diagnose_link
from knet_trio._state.explain_handle import explain_handle
from knet_trio._state.explain_link import explain_link
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause
from tests.state.fakes import KEY, World, address

PING = encode_ping(Ping(2, 0, bytes(16), 1, True))


async def test_a_link_that_is_new_has_nothing() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(2))
    said = diagnose_link(link)
    assert (said.pong_last, said.ping_last, said.heard_from, said.trouble) == (None,) * 4
    assert (said.late_pongs, said.overflows, dict(said.drops), said.crypto_fault) == (
        0,
        0,
        {},
        None,
    )


async def test_an_error_of_the_network_is_told_with_its_number() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(2))
    world.trouble(address(2), errno.ECONNREFUSED)
    trouble = diagnose_link(link).trouble
    assert trouble is not None
    assert (trouble.errno, trouble.local) == (errno.ECONNREFUSED, False)
    assert "refused" in trouble.text


async def test_pongs_that_come_too_late(autojump_clock: MockClock) -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(2))
    now = world.context.now()
    link.heartbeat.beat(now)
    autojump_clock.jump(link.config.pong_timeout + 1)
    world.pong(link, now)
    said = diagnose_link(link)
    assert (said.late_pongs, said.late_pong) == (1, link.config.pong_timeout + 1)
    assert "pongs come later than pong_timeout, the last after 3.000 s" in explain_link(link)


async def test_what_was_dropped_has_its_source() -> None:
    world = World()
    link = world.add_link(world.add_host(), dst=address(2))
    for where in (link, None):
        world.context.refuse(DropCause.MALFORMED, address(9), "too short", link=where)
    for said in (diagnose_link(link), diagnose_handle(world.context)):
        detail = said.drops[DropCause.MALFORMED]
        assert (detail.count, detail.source) == (1, str(address(9)))
        assert detail.text.endswith("is refused: too short")


@pytest.mark.parametrize(
    ("sealed_by", "differs"),
    [
        (CryptoConfig(KEY[::-1]), "key"),
        (CryptoConfig(KEY, "aes128"), "cipher"),
        (CryptoConfig(KEY, hash="md5"), "hash"),
        (CryptoConfig(KEY, "none", "sha512"), "hash"),
    ],
)
async def test_what_cannot_be_opened_is_tried_with_other_names(
    sealed_by: CryptoConfig, differs: str
) -> None:
    world = World(crypto=CryptoConfig(KEY))
    (datagram,) = make_cipher(sealed_by).seal([PING])
    world.context.counters.unopened = Unopened(datagram, address(2), 1.0, DropCause.NOT_AUTHENTIC)
    fault = diagnose_handle(world.context).crypto_fault
    assert fault is not None
    assert (fault.differs, fault.source, fault.at) == (differs, str(address(2)), 1.0)
    assert bytes.fromhex(fault.datagram) == datagram
    if differs != "key":
        assert (fault.cipher, fault.hash) == (sealed_by.cipher, sealed_by.hash)


@pytest.mark.parametrize("same_key", [True, False])
async def test_another_envelope_is_told(same_key: bool) -> None:
    key = KEY if same_key else KEY[::-1]
    aead, usual = CryptoConfig(KEY, model="aead"), CryptoConfig(KEY)
    for here, there in ((usual, aead), (aead, usual), (aead, aead), (usual, usual)):
        slots = World(crypto=attrs.evolve(there, key=key)).context.crypto
        (datagram,) = slots.seal([PING])
        world = World(crypto=here)
        unopened = Unopened(datagram, address(2), 1.0, DropCause.NOT_AUTHENTIC)
        world.context.counters.unopened = unopened
        fault = diagnose_handle(world.context).crypto_fault
        assert fault is not None
        # What is no envelope of aead may be one with a hash, and anything else, without the key.
        is_other = here is not there and (same_key or there is aead)
        assert fault.other_model is is_other


@pytest.mark.parametrize(
    ("crypto", "cause", "differs"),
    [
        (CryptoConfig(KEY), DropCause.CLEAR_TRAFFIC, "clear"),
        (CryptoConfig(KEY), DropCause.WRONG_VERSION, "cipher"),
        (None, DropCause.WRONG_VERSION, "sealed"),
        (None, DropCause.BAD_FRAGMENT, None),
    ],
)
async def test_what_is_no_packet_tells_by_its_cause(
    crypto: CryptoConfig | None, cause: DropCause, differs: str | None
) -> None:
    world = World(crypto=crypto)
    world.context.counters.unopened = Unopened(bytes(80), address(2), 1.0, cause)
    fault = diagnose_handle(world.context).crypto_fault
    assert (None if fault is None else fault.differs) == differs


async def test_bytes_are_shown_as_they_came_and_no_message_that_was_opened() -> None:
    world = World(crypto=CryptoConfig(KEY))
    counters = world.context.counters
    for cause, shown in ((DropCause.CLEAR_TRAFFIC, "00" * 80), (DropCause.BAD_FRAGMENT, "")):
        counters.unopened = Unopened(bytes(80), address(2), 1.0, cause)
        fault = diagnose_handle(world.context).crypto_fault
        assert fault is not None
        assert fault.datagram == shown


async def test_channels_that_are_not_open() -> None:
    world = World()
    counters = world.context.counters
    for messages in (2, 3):
        counters.came_for_closed(7, 2, messages, 1.0)
    (closed,) = diagnose_handle(world.context).closed_channels
    assert (closed.channel, closed.messages, closed.host_id) == (7, 5, 2)
    assert "channel 7 is not open: 5 messages for it lost, the last of host 2" in explain_handle(
        world.handle
    )
    counters.clear()
    assert diagnose_handle(world.context).closed_channels == ()
