"""An envelope opens to what was sealed, and anything else is a PacketError, alone or among many.

What "anything else" is, the standard library and a cipher made for that one envelope decide. The
bytes choose two configurations and make envelopes: noise, changed ones, and such as only a holder
of the key can make, with the right hash of wrong contents.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR

from knet_trio._core.onwire import decode_untrusted
from knet_trio._crypto.envelope import CIPHER_NAMES, HASH_NAMES, make_cipher
from knet_trio._crypto.slots import CryptoSlots
from knet_trio.abc import Cipher
from knet_trio.config import CryptoConfig
from knet_trio.errors import DropCause, PacketError
from tests.fuzz.script import Script

CIPHERS: Final = (*CIPHER_NAMES, "none")
KEYS: Final = (bytes(range(128)), bytes(range(255, 0, -1)))
ENVELOPES: Final = 8
BLOCK: Final = 16


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    script = Script(data)
    configs = [
        CryptoConfig(key, cipher=script.choose(CIPHERS), hash=script.choose(HASH_NAMES))
        for key in KEYS
    ]
    setting = script.number()
    makers = [make_cipher(config) for config in configs]
    envelopes: list[bytes] = []
    while script and len(envelopes) < ENVELOPES:
        envelopes.append(make(script, configs, makers))
    for config in configs:
        check_cipher(config, envelopes)
    check_slots(configs, envelopes, in_use=setting % 3, allow_clear=setting < 128)


def make(script: Script, configs: Sequence[CryptoConfig], makers: Sequence[Cipher]) -> bytes:
    """The next envelope."""
    kind = script.number()
    which = kind % 2
    config, cipher = configs[which], makers[which]
    match kind // 2 % 5:
        case 0:
            return script.chunk()
        case 1:
            body = script.chunk()
            return body + digest(config, body)
        case 2:
            packet = script.chunk()
            (envelope,) = cipher.seal([packet])
            # Where nothing is encrypted, there must be something to say.
            expected = packet if packet or cipher.block_size == BLOCK else None
            assert open_plainly(config, envelope) == expected
            return envelope
        case 3:
            (envelope,) = cipher.seal([script.chunk()])
            at, change = script.number() % len(envelope), script.number() or 1
            changed = envelope[:at] + bytes((envelope[at] ^ change,)) + envelope[at + 1 :]
            assert open_plainly(config, changed) is None
            return changed
        case _:
            # Whole blocks whose end need not be a padding.
            plain = script.chunk()
            salt = os.urandom(BLOCK)
            key = config.key[: key_size(config)]
            encryptor = BlockCipher(AES(key), CBC(salt)).encryptor()
            body = salt + encryptor.update(plain[: len(plain) // BLOCK * BLOCK])
            return body + digest(config, body)


def check_cipher(config: CryptoConfig, envelopes: Sequence[bytes]) -> None:
    """One cipher opens all of them, twice, so that each comes after each other one."""
    expected = [open_plainly(config, envelope) for envelope in envelopes]
    cipher = make_cipher(config)
    assert opened(cipher.open_many_untrusted(envelopes)) == expected
    for envelope, packet in zip(envelopes, expected, strict=True):
        try:
            assert cipher.open_untrusted(envelope) == packet
        except PacketError as error:
            assert error.cause is DropCause.NOT_AUTHENTIC
            assert packet is None


def check_slots(
    configs: Sequence[CryptoConfig], envelopes: Sequence[bytes], *, in_use: int, allow_clear: bool
) -> None:
    """With two configurations, what either opens; what none does is clear, or is refused."""
    slots = CryptoSlots(allow_clear_traffic=allow_clear)
    for slot, config in enumerate(configs, start=1):
        slots.set(config, slot)
    slots.use(in_use)
    expected: list[bytes | None] = []
    for envelope in envelopes:
        packets = [open_plainly(config, envelope) for config in configs]
        clear = envelope if allow_clear and is_packet(envelope) else None
        expected.append(next((packet for packet in packets if packet is not None), clear))
    assert opened(slots.open_many_untrusted(envelopes)) == expected


def is_packet(datagram: bytes) -> bool:
    """Whether it can be read as it is."""
    try:
        decode_untrusted(datagram)
    except PacketError:
        return False
    return True


def opened(packets: Sequence[bytes | PacketError]) -> list[bytes | None]:
    """The packets, and None for errors."""
    return [None if isinstance(packet, PacketError) else packet for packet in packets]


def open_plainly(config: CryptoConfig, envelope: bytes) -> bytes | None:
    """The packet in ``envelope`` by the protocol's words, None if there is none."""
    size = len(digest(config, b""))
    body, end = envelope[:-size], envelope[-size:]
    if not body or not hmac.compare_digest(digest(config, body), end):
        return None
    if config.cipher == "none":
        return body
    salt, sealed = body[:BLOCK], body[BLOCK:]
    if not sealed:
        return None
    key = AES(config.key[: key_size(config)])
    if config.cipher.endswith("ctr"):
        return BlockCipher(key, CTR(salt)).decryptor().update(sealed)
    if len(sealed) % BLOCK:
        return None
    padded = BlockCipher(key, CBC(salt)).decryptor().update(sealed)
    padding = padded[-1]
    if not 1 <= padding <= BLOCK or padded[-padding:] != bytes((padding,)) * padding:
        return None
    return padded[:-padding]


def digest(config: CryptoConfig, body: bytes) -> bytes:
    """The hash that goes with ``body``."""
    return hmac.digest(config.key, body, config.hash)


def key_size(config: CryptoConfig) -> int:
    """The bytes of the cipher's key. Its name says the bits; for none any size will do."""
    bits = "".join(filter(str.isdigit, config.cipher))
    return int(bits or 128) // 8
