"""Manual pages of the commands, made from their help texts by ``nox -s manual``.

The pages are in ``docs/man/``, and are installed in ``share/man/man1``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from knet_trio.cli.commands import knet_trio

_NAME: Final = "knet-trio"
# Characters that make a line of roff a request if it begins with them.
_CONTROL: Final = re.compile(r"^[.']", re.MULTILINE)
# Click's mark in a help text before lines that are kept as written.
_AS_IS: Final = "\b"
_EXAMPLES: Final = ("Example:", "Examples:")
_STATUS: Final = "Exit status:"


def make_pages() -> dict[str, str]:
    """Return all manual pages by the names of their files."""
    context = click.Context(knet_trio, info_name=_NAME, **knet_trio.context_settings)
    pages = {f"{_NAME}.1": make_main_page(context)}
    for name in knet_trio.list_commands(context):
        command = knet_trio.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        pages[f"{_NAME}-{name}.1"] = make_page(f"{_NAME}-{name}", inner)
    return pages


def make_main_page(context: click.Context) -> str:
    """Return the page of ``knet-trio`` itself, which lists the commands."""
    rows: list[str] = []
    names = knet_trio.list_commands(context)
    for name in names:
        command = knet_trio.get_command(context, name)
        assert command is not None
        rows += [".TP", f"\\fB{_text(f'{_NAME}-{name}')}\\fP(1)", _text(_brief(command))]
    return _page(_NAME, context, [".SH COMMANDS", *rows], [f"{_NAME}-{name}" for name in names])


def make_page(name: str, context: click.Context) -> str:
    """Return the page of one command."""
    return _page(name, context, [], [_NAME])


def _page(name: str, context: click.Context, more: list[str], others: list[str]) -> str:
    command = context.command
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    usage = ["[OPTIONS]", *map(_argument, arguments)]
    if isinstance(command, click.Group):
        usage += ["COMMAND", "[ARGS]..."]
    sections = _sections(inspect.cleandoc(command.help or ""))
    lines = [
        # No date and no version: a page changes only when its text does.
        f'.TH "{name.upper()}" "1" "" "knet_trio" "User Commands"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(_brief(command))}",
        ".SH SYNOPSIS",
        f"\\fB{_text(context.command_path)}\\fP {_text(' '.join(usage))}",
        *sections.pop("DESCRIPTION"),
        *more,
        ".SH OPTIONS",
        *_options(context),
        *(line for lines in sections.values() for line in lines),
        ".SH SEE ALSO",
        ",\n".join(f"\\fB{_text(other)}\\fP(1)" for other in others),
    ]
    return "\n".join(lines) + "\n"


def _brief(command: click.Command) -> str:
    """Return the first sentence of a help text, as a phrase."""
    first = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", first)[0].rstrip(".")


def _sections(text: str) -> dict[str, list[str]]:
    """Return the sections of a help text by their titles; the rest is DESCRIPTION."""
    by_title: dict[str, list[str]] = {"DESCRIPTION": [], "EXIT STATUS": [], "EXAMPLES": []}
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith(_AS_IS):
            _, *lines = paragraph.splitlines()
            examples = lines[0].strip() in _EXAMPLES
            section = by_title["EXAMPLES" if examples else "DESCRIPTION"]
            shown = "\n".join(line.removeprefix("  ") for line in lines[examples:])
            section += [".PP", ".nf", _text(shown), ".fi"]
        elif paragraph.startswith(_STATUS):
            by_title["EXIT STATUS"] += [".PP", _text(paragraph.removeprefix(_STATUS).strip())]
        else:
            by_title["DESCRIPTION"] += [".PP", _text(paragraph)]
    # A paragraph begins with its section anyway.
    return {
        title: [f".SH {title}", *lines[1:]] if lines else [] for title, lines in by_title.items()
    }


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    if not argument.required and not name.startswith("["):
        name = f"[{name}]"
    return name if argument.nargs == 1 else f"{name}..."


def _options(context: click.Context) -> Iterator[str]:
    """Yield the options, without click's own help records, which differ between its versions."""
    for option in context.command.get_params(context):
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = ", ".join(f"\\fB{_text(name)}\\fP" for name in option.opts)
        value = "" if option.is_flag or option.name == "help" else f" {_value(option)}"
        yield ".TP"
        yield f"{names}{_text(value)}"
        yield _text(" ".join([*(option.help or "").split(), *_limits(option)]))


def _value(option: click.Option) -> str:
    if option.metavar is not None:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.partition(" ")[0].upper()


def _limits(option: click.Option) -> Iterator[str]:
    """Yield the range of an option's values, and its default where that is shown."""
    kind = option.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        if kind.min is not None and kind.max is not None:
            yield f"It is {kind.min:g} to {kind.max:g}."
        elif kind.min is not None:
            yield f"It is {kind.min:g} or more."
    if option.show_default and option.default is not None:
        yield f"[default: {option.default}]"


def _text(text: str) -> str:
    """Return a text escaped for roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    escaped = escaped.replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return _CONTROL.sub(r"\\&\g<0>", escaped)


def write_pages(directory: Path) -> None:
    """Write all pages into a directory, and remove the pages of commands that no longer exist."""
    pages = make_pages()
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.1"):
        if old.name not in pages:
            old.unlink()
    for name, page in pages.items():
        (directory / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
