"""The page on the protocol says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from knet_trio.streams._core import limits, wire
from knet_trio.streams._core.connection_stages import CONNECTION_TRANSITIONS, ConnectionStage
from knet_trio.streams._core.faults import VIOLATIONS, Fault
from knet_trio.streams._core.receiving_half import RECEIVING_TRANSITIONS, ReceivingStage
from knet_trio.streams._core.sending_half import SENDING_TRANSITIONS, SendingStage
from knet_trio.streams._core.stream_timers import StreamTimer
from tests.streams.core.tables import (
    FIELDS,
    constants,
    described,
    layout,
    numbers,
    table,
    transitions,
)

PAGE: Final = (Path(__file__).parents[3] / "docs" / "streams-protocol.md").read_text()


@pytest.mark.parametrize("name", FIELDS)
def test_the_page_has_the_layouts(name: str) -> None:
    assert layout(name) in PAGE


@pytest.mark.parametrize(
    "kind", [wire.StreamPacketKind, wire.FrameType, wire.StreamKind, wire.Code]
)
def test_the_page_has_the_numbers_of_kinds(kind: type[wire.Code]) -> None:
    assert numbers(kind) in PAGE


def test_the_page_has_the_states() -> None:
    assert transitions(CONNECTION_TRANSITIONS, ConnectionStage) in PAGE
    assert transitions(SENDING_TRANSITIONS, SendingStage) in PAGE
    assert transitions(RECEIVING_TRANSITIONS, ReceivingStage) in PAGE


def test_the_page_has_the_timers() -> None:
    rows = [[timer.name, str(timer.value)] for timer in StreamTimer]
    assert table(["timer", "when it is due"], rows) in PAGE


def test_the_page_has_the_numbers() -> None:
    assert constants() in PAGE
    uppercase = {name for name in vars(limits) if name.isupper()}
    assert set(described(limits)) == uppercase


def test_the_page_names_what_is_refused_and_what_ends_the_connection() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    found = {
        cause: "VIOLATION" in consequence
        for causes, consequence in rows
        for cause in re.findall(r"`(\w+)`", causes)
    }
    assert found == {str(fault): fault in VIOLATIONS for fault in Fault}


def test_the_names_on_the_page_are_those_of_the_code() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", PAGE))
    assert named <= {name for name in vars(limits) if name.isupper()}
