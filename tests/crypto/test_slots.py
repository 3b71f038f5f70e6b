"""The two crypto configurations of a handle."""

from __future__ import annotations

import errno
import itertools
from typing import ClassVar

import pytest

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
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.config import CryptoConfig
from knet_trio.errors import BusyError, DropCause, InvalidArgumentError, PacketError

OLD = CryptoConfig(b"o" * 128)
NEW = CryptoConfig(b"n" * 128, cipher="aes128", hash="sha512")
OTHER = CryptoConfig(b"x" * 128, hash="md5")
PACKET = encode_data(Data(7, 9, 0, True, 1, 0, 3, b"a packet"))


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

    def test_where_it_is_allowed_a_packet_is_taken_as_it_is(self) -> None:
        slots = slots_with(OLD, NEW, use=1, clear=True)
        assert slots.open_untrusted(PACKET) == PACKET
        # Nobody reads these bytes, and other releases may write something else.
        odd = PACKET[:4] + b"\x09\x09" + PACKET[6:]
        assert slots.open_untrusted(odd) == odd
        assert slots.open_untrusted(sealed(OLD)) == PACKET

    def test_where_it_is_allowed_what_is_no_packet_is_not_authentic(self) -> None:
        slots = slots_with(OLD, use=1, clear=True)
        assert cause_of_refusing(slots, sealed(NEW)) is DropCause.NOT_AUTHENTIC

    def test_where_it_is_not_allowed_a_packet_is_clear_and_the_rest_not_authentic(self) -> None:
        slots = slots_with(OLD, use=1)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC
        assert cause_of_refusing(slots, sealed(NEW)) is DropCause.NOT_AUTHENTIC
        assert cause_of_refusing(slots, b"") is DropCause.NOT_AUTHENTIC

    def test_what_has_a_hash_is_not_taken_for_clear(self) -> None:
        bare = CryptoConfig(b"k" * 200, cipher="none")
        ping = encode_ping(Ping(7, 1, bytes(range(16)), 9, True))
        sealed_ping, sealed_data = slots_with(bare, use=1).seal([ping, PACKET])
        for config in (OLD, CryptoConfig(b"x" * 200, cipher="none")):
            slots = slots_with(config, use=1)
            assert cause_of_refusing(slots, sealed_ping) is DropCause.NOT_AUTHENTIC
            assert cause_of_refusing(slots, ping) is DropCause.CLEAR_TRAFFIC
        # Here it may be data with a hash.
        assert cause_of_refusing(slots, sealed_data) is DropCause.NOT_AUTHENTIC
        assert cause_of_refusing(slots, PACKET) is DropCause.NOT_AUTHENTIC

    def test_where_it_is_not_allowed_and_there_is_no_configuration_nothing_comes_in(self) -> None:
        slots = CryptoSlots(allow_clear_traffic=False)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC
        assert cause_of_refusing(slots, sealed(OLD)) is DropCause.NOT_AUTHENTIC
        with pytest.raises(PacketError, match="it is encrypted, and this host has no crypto"):
            slots.open_untrusted(sealed(OLD))

    def test_it_can_be_forbidden_while_packets_come(self) -> None:
        slots = slots_with(OLD, use=1, clear=True)
        slots.set_clear_traffic(False)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC

    def test_unless_something_else_is_said_a_key_in_use_is_the_end_of_it(self) -> None:
        slots = CryptoSlots()
        slots.set(OLD, 1)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.use(1)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC
        slots.use(0)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.replace(NEW)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC
        slots.set_clear_traffic(True)
        assert slots.open_untrusted(PACKET) == PACKET
        slots.set_clear_traffic(None)
        assert cause_of_refusing(slots, PACKET) is DropCause.CLEAR_TRAFFIC


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


class TestSameHash:
    """Two configurations with one key and one hash: it is right for both."""

    CIPHERS: ClassVar = ("none", "aes128", "aes256", "aes-128-ctr", "aes-256-ctr")
    PACKETS: ClassVar = (
        encode_data(Data(7, 9, 0, True, 1, 0, 3, b"hello")),
        encode_data(Data(7, 9, 0, False, 3, 2, 31, b"x" * 1300)),
        encode_ping(Ping(7, 1, bytes(range(16)), 9, True)),
        encode_pong(Pong(7, 1, bytes(range(16)), 9, False)),
        encode_pmtud(PmtudProbe(7, 1, 500, 500)),
        encode_pmtud_reply(PmtudReply(7, 1, 500)),
    )

    @staticmethod
    def config(cipher: str) -> CryptoConfig:
        return CryptoConfig(b"k" * 200, cipher=cipher)

    @pytest.mark.parametrize("used", [0, 1, 2])
    @pytest.mark.parametrize(("first", "second"), list(itertools.permutations(CIPHERS, 2)))
    def test_both_open_whichever_is_in_use(self, first: str, second: str, used: int) -> None:
        slots = slots_with(self.config(first), self.config(second), use=used)
        # Often enough that padding which is right by chance occurs.
        for cipher in (first, second):
            envelopes = slots_with(self.config(cipher), use=1).seal(self.PACKETS * 50)
            assert slots.open_many_untrusted(envelopes) == list(self.PACKETS * 50)
            assert [slots.open_untrusted(one) for one in envelopes] == list(self.PACKETS * 50)

    def test_a_peer_that_leaves_other_bytes_where_nobody_reads_is_understood(self) -> None:
        slots = slots_with(self.config("aes-128-ctr"), self.config("aes-256-ctr"), use=1)
        odd = bytearray(self.PACKETS[0])
        odd[4:6] = b"\x09\x09"
        for cipher in ("aes-128-ctr", "aes-256-ctr"):
            (envelope,) = slots_with(self.config(cipher), use=1).seal([bytes(odd)])
            assert slots.open_untrusted(envelope) == odd

    def test_what_is_no_packet_is_what_the_first_makes_of_it(self) -> None:
        slots = slots_with(self.config("none"), self.config("aes256"), use=1)
        (envelope,) = slots_with(self.config("none"), use=1).seal([b"no packet"])
        assert slots.open_untrusted(envelope) == b"no packet"

    def test_an_envelope_of_another_key_is_not_authentic(self) -> None:
        slots = slots_with(self.config("none"), self.config("aes-256-ctr"), use=1)
        assert cause_of_refusing(slots, sealed(OLD)) is DropCause.NOT_AUTHENTIC
        (refused, opened) = slots.open_many_untrusted([sealed(OLD), slots.seal([PACKET])[0]])
        assert isinstance(refused, PacketError)
        assert opened == PACKET

    def test_clear_packets_pass_where_they_are_allowed(self) -> None:
        slots = slots_with(self.config("none"), self.config("aes256"), use=1, clear=True)
        assert slots.open_untrusted(PACKET) == PACKET

    @pytest.mark.parametrize(
        "other", [OLD, CryptoConfig(b"k" * 200, hash="sha512"), CryptoConfig(b"k" * 201)]
    )
    def test_another_key_or_hash_costs_no_second_look(self, other: CryptoConfig) -> None:
        assert len(slots_with(self.config("none"), other).openers) == 2

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize(
        ("before", "after"), [("none", "aes256"), ("aes-128-ctr", "aes-256-ctr")]
    )
    def test_the_cipher_can_be_changed_on_two_hosts_without_a_packet_lost(
        self, before: str, after: str, first: int
    ) -> None:
        hosts = [slots_with(self.config(before), use=1) for _ in range(2)]

        def talk() -> None:
            for sender, receiver in (hosts, reversed(hosts)):
                for packet in self.PACKETS:
                    assert receiver.open_untrusted(sender.seal([packet])[0]) == packet

        order = (hosts[first], hosts[1 - first])
        for step in ("set", "use", "clear"):
            for host in order:
                match step:
                    case "set":
                        host.set(self.config(after), 2)
                    case "use":
                        host.use(2)
                    case _:
                        host.set(None, 1)
                talk()
