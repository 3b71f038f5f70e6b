"""docs/commands.md has what the commands have."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from knet_trio.cli.commands import knet_trio
from knet_trio.cli.events import event_text
from knet_trio.cli.status import status
from knet_trio.cli.top_screen import SORTS
from knet_trio.control import LinkEvent

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
COMMON = {"--socket", "--json", "--interval"}


def section(heading: str) -> str:
    found = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, heading
    return str(found[0])


@pytest.mark.parametrize(
    "name",
    sorted(set(knet_trio.list_commands(click.Context(knet_trio))) - {"decode"}),
)
def test_a_section_has_the_options(name: str) -> None:
    command = knet_trio.get_command(click.Context(knet_trio), name)
    assert command is not None
    text = section(name)
    options = [option for one in command.params for option in one.opts if option[:2] == "--"]
    assert "--json" in options
    assert [option for option in options if option not in {*COMMON} and option not in text] == []
    assert "xit status" in text or name in ("events", "top")


def test_the_section_of_decode_has_the_options() -> None:
    command = knet_trio.get_command(click.Context(knet_trio), "decode")
    assert command is not None
    text = section("decode")
    assert [one.opts[-1] for one in command.params if f"`{one.opts[-1]}" not in text] == ["file"]


def test_the_orders_of_top() -> None:
    assert f"sort by {', '.join(SORTS)}," in section("top")


def test_the_lines_shown_are_such_lines() -> None:
    event = LinkEvent(
        time=0,
        host_id=3,
        host_name="beta",
        link_id=0,
        connected=False,
        reason="no pong for 2.014 s",
    )
    assert event_text(event).plain.split("  ", 1)[1] in section("events")
    assert status.help is not None
    assert 'up without carrying data ("no data"' in " ".join(status.help.split())
