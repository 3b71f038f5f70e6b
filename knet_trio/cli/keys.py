"""Reading of single keys from a terminal."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from typing import Final

import trio

_SEQUENCES: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\r": "enter",
    "\n": "enter",
    "\x1b": "escape",
}
_LONGEST: Final = max(map(len, _SEQUENCES))


def parse_keys(text: str) -> Iterator[str]:
    """Yield the names of the keys in the input of a terminal; a character is its own name.

    Sequences of unknown keys are skipped.
    """
    while text:
        for size in range(min(_LONGEST, len(text)), 0, -1):
            name = _SEQUENCES.get(text[:size])
            if name is not None and not (name == "escape" and text[1:2] in ("[", "O")):
                yield name
                text = text[size:]
                break
        else:
            if text.startswith("\x1b"):
                text = _after_sequence(text)
                continue
            yield text[0]
            text = text[1:]


def _after_sequence(text: str) -> str:
    """Return the text after the sequence of an unknown key."""
    for number, character in enumerate(text[2:], start=2):
        if character.isalpha() or character == "~":
            return text[number + 1 :]
    return ""


@contextmanager
def raw_keys(descriptor: int) -> Generator[None]:
    """Make a terminal pass on each key at once, without echo, while the block runs.

    Ctrl-C and Ctrl-Z still work. Ctrl-S is a key, since otherwise it would stop the output, and
    block the program in a write.
    """
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        mode = termios.tcgetattr(descriptor)
        mode[tty.IFLAG] &= ~termios.IXON
        termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def read_keys(descriptor: int) -> AsyncGenerator[str]:
    """Yield the keys that are pressed, until the terminal is closed."""
    while True:
        # No non-blocking mode: the descriptor shares it with the output and the shell.
        await trio.lowlevel.wait_readable(descriptor)
        try:
            pressed = os.read(descriptor, 1024)
        except OSError:
            # The terminal has been closed.
            return
        if not pressed:
            return
        for key in parse_keys(pressed.decode(errors="replace")):
            yield key
