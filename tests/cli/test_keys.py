from __future__ import annotations

import os
import pty
import termios

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from knet_trio.cli.keys import parse_keys, raw_keys, read_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("qs", ["q", "s"]),
        ("\x1b[A\x1b[B", ["up", "down"]),
        ("\x1bOAk", ["up", "k"]),
        ("\x1b[5~\x1b[6~", ["page up", "page down"]),
        ("\x1b[H\x1b[F\x1b[1~\x1b[4~", ["home", "end", "home", "end"]),
        ("\x1b", ["escape"]),
        ("\r\n", ["enter", "enter"]),
        # Keys without a name: F5, Ctrl-right, and one that is cut off.
        ("a\x1b[15~b", ["a", "b"]),
        ("\x1b[1;5Cx", ["x"]),
        ("x\x1b[", ["x"]),
        ("é", ["é"]),
    ],
    ids=repr,
)
def test_keys_have_names(text: str, keys: list[str]) -> None:
    assert list(parse_keys(text)) == keys


@given(st.text(max_size=20))
def test_whatever_is_typed_comes_to_an_end(text: str) -> None:
    assert len(list(parse_keys(text))) <= len(text)


async def test_keys_come_one_by_one_and_the_terminal_is_as_before() -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with raw_keys(theirs):
            os.write(ours, b"q\x1b[A")
            keys = read_keys(theirs)
            with trio.fail_after(30):
                assert [await anext(keys), await anext(keys)] == ["q", "up"]
            await keys.aclose()
            # Nothing is shown of them.
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            # Ctrl-S stops no output.
            assert not termios.tcgetattr(theirs)[0] & termios.IXON
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


async def test_a_terminal_that_is_gone_has_no_more_keys() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    with trio.fail_after(30):
        assert [key async for key in read_keys(theirs)] == []
    os.close(theirs)
