"""Of the life that is confirmed each packet above the floor is taken once, and no other packet.

The bytes decide what two lives of a host seal, what somebody plays again, changes or makes up, and
when a life is confirmed or contact lost. Sets of what was taken decide what is right.
"""

from __future__ import annotations

from typing import Final

import trio

from knet_trio._core.onwire import PING_SIZE, TYPE_PING, VERSION
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.aead import PacketSealer
from knet_trio._crypto.life import Life
from knet_trio._crypto.slots import CryptoSlots
from knet_trio._pipeline.aead_opening import AeadOpening
from knet_trio._state.context import Context
from knet_trio._state.handle import HandleState
from knet_trio._state.trust import Credentials
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from knet_trio.errors import PacketError
from tests.fuzz.script import Script

ME: Final = 1
PEER: Final = 2
CONFIG: Final = CryptoConfig(bytes(range(128)), model="aead")
SOURCE: Final = Address("192.0.2.2", 5405)
TO: Final = (ME, None, 3)
STEPS: Final = 60


def check(data: bytes) -> None:
    """Raise if the invariant does not hold."""
    trio.run(_check, data)


async def _check(data: bytes) -> None:
    script, game = Script(data), _Game()
    for _ in range(STEPS):
        if not script:
            break
        game.step(script)
    game.close()


class _Game:
    """A receiver, the lives of its peer, and what has to be so."""

    def __init__(self) -> None:
        slots = CryptoSlots(host_id=ME)
        slots.replace(CONFIG)
        self._context = Context(
            ME, crypto=slots, access_lists=False, pmtud_interval=60.0, fixed_mtu=None
        )
        handle = HandleState(self._context)
        self._host = handle.add(PEER, "peer", LinkPolicy.PASSIVE)
        self._host.trust.is_up = True
        self._trust = self._host.trust.of(slots.aead[0])
        self._opening = AeadOpening(handle, self._refuse)
        names = iter((b"a" * 9, b"b" * 9))
        lives = [Life(lambda _: next(names)) for _ in range(2)]
        schedule = slots.aead[0].schedule
        self._sealers = [PacketSealer(schedule, PEER, life) for life in lives]
        # Each with whom it is for, its life, its counter, and the packet.
        self._sealed: list[tuple[bytes, int | None, bytes, int, bytes]] = []
        self._counts = {b"a" * 9: 0, b"b" * 9: 0}
        self._confirmed = b""
        self._floor = 0
        self._taken: set[int] = set()

    def close(self) -> None:
        """End it."""
        self._context.log.close()

    @staticmethod
    def _refuse(error: PacketError, datagram: bytes, source: Address) -> None:
        assert isinstance(error, PacketError)
        assert source is SOURCE
        del datagram

    def step(self, script: Script) -> None:
        """Do what comes next."""
        kind = script.number()
        which = kind % 2
        match kind // 2 % 7:
            case 0:
                self._receive(self._seal(which, script))
            case 1:
                self._seal(which, script)
            case 2:
                if self._sealed:
                    self._receive(script.number() % len(self._sealed))
            case 3:
                self._receive_train(script)
            case 4:
                self._prove(which, script)
            case 5:
                self._host.trust.lapse()
                self._confirmed = b""
            case _:
                self._make_up(which, script)

    def _seal(self, which: int, script: Script) -> int:
        """Seal a packet; return its place among all."""
        packet = bytes((VERSION, TYPE_PING)) + PEER.to_bytes(2, "big") + script.chunk()
        if which:
            packet = packet[:PING_SIZE].ljust(PING_SIZE, b"\0")
        to = script.choose(TO)
        sealer = self._sealers[script.number() % 2]
        (envelope,) = sealer.seal_to([packet], to)
        life = envelope[6:15]
        self._counts[life] += 1
        self._sealed.append((envelope, to, life, self._counts[life], packet))
        return len(self._sealed) - 1

    def _is_good(self, place: int) -> bool:
        _, to, life, counter, _ = self._sealed[place]
        return (
            life == self._confirmed
            and to in (None, ME)
            and counter > self._floor
            and counter not in self._taken
        )

    def _receive(self, place: int) -> None:
        envelope, to, life, counter, packet = self._sealed[place]
        opened = self._opening.open_untrusted(envelope, SOURCE)
        if self._is_good(place):
            assert opened is not None
            assert opened.packet == packet
            assert opened.credentials.believed
            opened.credentials.take_data()
            assert opened.credentials.is_newest is (counter > max(self._taken, default=self._floor))
            self._taken.add(counter)
        elif life != self._confirmed and len(packet) == PING_SIZE and to in (None, ME):
            assert opened is not None
            assert opened.packet == packet
            assert not opened.credentials.believed
        else:
            assert opened is None

    def _receive_train(self, script: Script) -> None:
        """Receive some of those of one size that were sealed, one behind the other."""
        first = script.number() % max(1, len(self._sealed))
        places: list[int] = []
        for place in range(first, min(first + 8, len(self._sealed))):
            if len(self._sealed[place][0]) != len(self._sealed[first][0]):
                break
            places.append(place)
        if not places:
            return
        train = b"".join(self._sealed[place][0] for place in places)
        run = self._opening.open_run_untrusted(train, len(self._sealed[first][0]))
        if run is None:
            return
        assert all(self._is_good(place) for place in places)
        assert run.packets == [self._sealed[place][4] for place in places]
        run.credentials.take_data()
        self._taken.update(self._sealed[place][3] for place in places)

    def _prove(self, which: int, script: Script) -> None:
        """A pong of a life has come: what it was sealed with is the floor."""
        life = (b"a", b"b")[which] * 9
        if life == self._confirmed:
            return
        counter = script.number() % (self._counts[life] + 1)
        sealer = self._trust.sealer
        credentials = Credentials(sealer, self._trust, life, (counter,), believed=False)
        self._host.trust.confirm(credentials, reachable=True)
        self._confirmed, self._floor = life, counter
        self._taken.clear()

    def _make_up(self, which: int, script: Script) -> None:
        """Somebody makes up an envelope, or changes one."""
        if which or not self._sealed:
            datagram = b"a" + script.chunk()
        else:
            envelope = self._sealed[script.number() % len(self._sealed)][0]
            at, change = script.number() % len(envelope), script.number() or 1
            datagram = envelope[:at] + bytes((envelope[at] ^ change,)) + envelope[at + 1 :]
        if all(datagram != sealed[0] for sealed in self._sealed):
            assert self._opening.open_untrusted(datagram, SOURCE) is None
            assert self._opening.open_run_untrusted(datagram * 2, len(datagram)) is None
