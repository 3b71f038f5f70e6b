"""Which packets of model ``aead`` a host has to believe, by what came to it.

What shows that a life of a host is there is a pong, to a ping that was sent since contact was lost
last. Packets of that life are believed that were sealed after such a pong and come after it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import Final, NamedTuple

from tests.simulation.timeline import Timeline
from tests.simulation.witness import Control, Seal, Sender

# Seconds between a decision and the event, or between what is drawn and what is sent.
_SLACK: Final = 0.05


class _Pong(NamedTuple):
    ended: float
    asked: float
    counter: int


class Heard(NamedTuple):
    """What a host knows of another, apart from packets.

    ``reach``: whether it found it reachable; ``removed``: whether it had removed it.
    """

    reach: Timeline
    removed: Timeline


class Confirmations:
    """Of all hosts, in all their lives."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        # By listener, key, sender and the life that its envelopes tell.
        self._pongs: dict[tuple[Sender, bytes, int, bytes], list[_Pong]] = defaultdict(list)
        # When which life was heard last, by listener, key and sender.
        self._lives: dict[tuple[Sender, bytes, int], list[tuple[float, bytes]]] = defaultdict(list)

    def note(
        self,
        controls: dict[tuple[Sender, Sender], list[Control]],
        disabled: dict[tuple[int, int, int], Timeline],
        paused: dict[int, Timeline],
    ) -> None:
        """Add what was seen on the network."""
        for (sender, to), packets in controls.items():
            for packet in packets:
                seal = packet.seal
                if seal is None or packet.number is not None:
                    continue
                self._lives[to, seal.key, sender.host].append((packet.ended, seal.life))
                if (
                    packet.asked is not None
                    and packet.ended <= packet.asked + self._patience
                    and not disabled[to.host, sender.host, packet.link].at(packet.ended)
                    and not paused[to.host].ever(True, packet.asked, packet.ended)
                ):
                    self._pongs[to, seal.key, sender.host, seal.life].append(
                        _Pong(packet.ended, packet.asked, seal.counter)
                    )
        for pongs in self._pongs.values():
            pongs.sort()
        for lives in self._lives.values():
            lives.sort()

    def is_believed(self, sender: Sender, to: Sender, seal: Seal, at: float, heard: Heard) -> bool:
        """Whether a packet that is looked at at that time has to be taken."""
        pongs = self._pongs[to, seal.key, sender.host, seal.life]
        lives = self._lives[to, seal.key, sender.host]
        for pong in reversed(pongs[: bisect_left(pongs, (at,))]):
            if pong.counter >= seal.counter:
                continue
            begin, end = pong.asked - _SLACK, at + _SLACK
            first, last = bisect_left(lives, (begin,)), bisect_right(lives, (end,))
            return (
                not heard.reach.became(False, begin, end)
                and not heard.removed.ever(True, begin, end)
                and all(life == seal.life for _, life in lives[first:last])
            )
        return False
