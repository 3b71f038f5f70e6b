"""The two crypto configurations of a handle."""

from __future__ import annotations

import errno

import pytest

from knet_trio._crypto.slots import CryptoSlots
from knet_trio.config import CryptoConfig
from knet_trio.errors import BusyError, DropCause, InvalidArgumentError, PacketError

OLD = CryptoConfig(b"o" * 128)
NEW = CryptoConfig(b"n" * 128, cipher="aes128", hash="sha512")
OTHER = CryptoConfig(b"x" * 128, hash="md5")
PACKET = b"\x01 a packet"


def slots_with(*configs: CryptoConfig, use: int = 0, clear: bool = False) -> CryptoSlots:
    slots = CryptoSlots(allow_clear_traffic=clear)
    for slot, config in enumerate(configs, start=1):
        slots.set(config, slot)
    slots.use(use)
    return slots


def sealed(config: CryptoConfig) -> bytes:
    return slots_with(config, use=1).seal([PACKET])[0]


def cause_of_refusing(slots: CryptoSlots, datagram: bytes) -> DropCause:
    with pytest.raises(PacketError) as caught:
        slots.open_untrusted(datagram)
    return caught.value.cause


def test_without_a_configuration_packets_go_in_the_clear() -> None:
    slots = CryptoSlots()
    assert slots.in_use == 0
    assert slots.sealer is None
    assert slots.seal([PACKET, b"2"]) == [PACKET, b"2"]
    assert slots.open_untrusted(PACKET) == PACKET


def test_a_configuration_opens_as_soon_as_it_is_set_and_seals_once_it_is_used() -> None:
    slots = slots_with(OLD)
    assert slots.open_untrusted(sealed(OLD)) == PACKET
    assert slots.seal([PACKET]) == [PACKET]
    slots.use(1)
    assert slots.in_use == 1
    assert slots.seal([PACKET]) != [PACKET]
    assert slots.open_untrusted(slots.seal([PACKET])[0]) == PACKET


@pytest.mark.parametrize("in_use", [0, 1, 2])
def test_both_configurations_open_whichever_is_in_use(in_use: int) -> None:
    slots = slots_with(OLD, NEW, use=in_use)
    assert slots.open_untrusted(sealed(OLD)) == PACKET
    assert slots.open_untrusted(sealed(NEW)) == PACKET


def test_the_key_can_be_changed_on_two_hosts_without_a_packet_lost() -> None:
    a, b = slots_with(OLD, use=1), slots_with(OLD, use=1)

    def talk() -> None:
        assert b.open_untrusted(a.seal([PACKET])[0]) == PACKET
        assert a.open_untrusted(b.seal([PACKET])[0]) == PACKET

    # Everywhere into the free slot, then everywhere in use, then the old one out everywhere.
    for host in (a, b):
        host.set(NEW, 2)
        talk()
    for host in (a, b):
        host.use(2)
        talk()
    for host in (a, b):
        host.set(None, 1)
        talk()
    assert cause_of_refusing(a, sealed(OLD)) is DropCause.NOT_AUTHENTIC


@pytest.mark.parametrize("config", [NEW, None], ids=["replaced", "cleared"])
@pytest.mark.parametrize("slot", [1, 2])
def test_the_configuration_in_use_cannot_be_changed(slot: int, config: CryptoConfig | None) -> None:
    slots = slots_with(OLD, OLD, use=slot)
    with pytest.raises(BusyError, match=f"set slot {3 - slot}") as caught:
        slots.set(config, slot)
    assert caught.value.errno == errno.EBUSY
    assert slots.open_untrusted(slots.seal([PACKET])[0]) == PACKET
    slots.use(0)
    slots.set(config, slot)


def test_a_replaced_configuration_opens_nothing_any_more() -> None:
    slots = slots_with(OLD)
    slots.set(NEW, 1)
    assert slots.open_untrusted(sealed(NEW)) == PACKET
    assert cause_of_refusing(slots, sealed(OLD)) is DropCause.NOT_AUTHENTIC


@pytest.mark.parametrize("in_use", [0, 1, 2])
def test_replacing_is_for_slot_1_and_uses_it_even_if_it_is_in_use(in_use: int) -> None:
    slots = slots_with(OLD, OTHER, use=in_use)
    slots.replace(NEW)
    assert slots.in_use == 1
    assert slots_with(NEW).open_untrusted(slots.seal([PACKET])[0]) == PACKET
    assert slots.open_untrusted(sealed(OTHER)) == PACKET
    assert cause_of_refusing(slots, sealed(OLD)) is DropCause.NOT_AUTHENTIC


@pytest.mark.parametrize("in_use", [0, 1, 2])
def test_replacing_by_nothing_clears_slot_1_and_seals_no_more(in_use: int) -> None:
    slots = slots_with(OLD, OTHER, use=in_use)
    slots.replace(None)
    assert slots.in_use == 0
    assert slots.seal([PACKET]) == [PACKET]
    assert slots.open_untrusted(sealed(OTHER)) == PACKET
    assert cause_of_refusing(slots, sealed(OLD)) is DropCause.NOT_AUTHENTIC


@pytest.mark.parametrize("in_use", [0, 1, 2])
def test_a_replacement_that_makes_no_envelope_leaves_all_as_it_was(in_use: int) -> None:
    slots = slots_with(OLD, OTHER, use=in_use)
    with pytest.raises(InvalidArgumentError):
        slots.replace(CryptoConfig(b"k" * 128, cipher="no"))
    assert slots.in_use == in_use
    assert slots.open_untrusted(sealed(OLD)) == PACKET


def test_clearing_an_empty_slot_is_no_error() -> None:
    slots = CryptoSlots()
    slots.set(None, 2)
    assert slots.in_use == 0


def test_an_empty_slot_cannot_be_used() -> None:
    slots = slots_with(OLD, use=1)
    with pytest.raises(InvalidArgumentError, match="slot 2 is empty"):
        slots.use(2)
    assert slots.in_use == 1


@pytest.mark.parametrize("slot", [-1, 3, True])
def test_there_are_two_slots_and_none(slot: int) -> None:
    slots = CryptoSlots()
    with pytest.raises(InvalidArgumentError, match="1 to 2"):
        slots.set(OLD, slot)
    with pytest.raises(InvalidArgumentError, match="0 to 2"):
        slots.use(slot)
    with pytest.raises(InvalidArgumentError, match="1 to 2"):
        slots.set(OLD, 0)


def test_a_configuration_that_makes_no_envelope_leaves_the_slot_as_it_was() -> None:
    slots = slots_with(OLD)
    with pytest.raises(InvalidArgumentError):
        slots.set(CryptoConfig(b"k" * 128, cipher="no"), 1)
    assert slots.open_untrusted(sealed(OLD)) == PACKET


class TestClearTraffic:
    def test_it_is_allowed_at_first(self) -> None:
        assert CryptoSlots().allow_clear_traffic

    def test_where_it_is_allowed_what_nothing_opens_is_taken_as_it_is(self) -> None:
        slots = slots_with(OLD, NEW, use=1, clear=True)
        assert slots.open_untrusted(PACKET) == PACKET
        assert slots.open_untrusted(sealed(OLD)) == PACKET

    def test_where_it_is_not_allowed_what_nothing_opens_is_not_authentic(self) -> None:
        slots = slots_with(OLD, use=1)
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC
        assert cause_of_refusing(slots, b"") is DropCause.NOT_AUTHENTIC

    def test_where_it_is_not_allowed_and_there_is_no_configuration_nothing_comes_in(self) -> None:
        assert cause_of_refusing(slots_with(), PACKET) is DropCause.CLEAR_TRAFFIC

    def test_it_can_be_forbidden_while_packets_come(self) -> None:
        slots = slots_with(OLD, use=1, clear=True)
        slots.set_clear_traffic(False)
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC

    def test_unless_something_else_is_said_a_key_in_use_is_the_end_of_it(self) -> None:
        slots = CryptoSlots()
        slots.set(OLD, 1)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.use(1)
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC
        slots.use(0)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.replace(NEW)
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC
        slots.set_clear_traffic(True)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.set_clear_traffic(None)
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC


def test_keys_are_never_shown() -> None:
    slots = slots_with(CryptoConfig(b"SECRET" * 30), use=1)
    shown = [repr(slots), str(slots), repr(slots.sealer), str(slots.sealer)]
    with pytest.raises(BusyError) as busy:
        slots.set(CryptoConfig(b"SECRET" * 40), 1)
    with pytest.raises(PacketError) as refused:
        slots.open_untrusted(PACKET)
    for error in (busy.value, refused.value):
        shown += [repr(error), str(error)]
    assert not [text for text in shown if "SECRET" in text or b"SECRET".hex() in text]
