"""What options take is numbers."""

from __future__ import annotations

import click
import pytest

from knet_trio.cli.commands import knet_trio
from knet_trio.cli.ranges import NumberRange


def ranges() -> list[tuple[str, str]]:
    """Every option that takes a range of numbers, with its command."""
    context = click.Context(knet_trio)
    found: list[tuple[str, str]] = []
    for name in knet_trio.list_commands(context):
        command = knet_trio.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option.type, click.FloatRange):
                assert isinstance(option.type, NumberRange), (name, option.name)
                found.append((name, option.opts[0]))
    return found


@pytest.mark.parametrize(("name", "option"), ranges())
def test_what_is_no_number_is_in_no_range(name: str, option: str) -> None:
    command = knet_trio.get_command(click.Context(knet_trio), name)
    assert command is not None
    with pytest.raises(click.BadParameter, match="nan is not a number"):
        command.make_context(name, [option, "nan"], resilient_parsing=False)


def test_a_number_is() -> None:
    assert NumberRange(0.5, 60).convert("7", None, None) == 7
