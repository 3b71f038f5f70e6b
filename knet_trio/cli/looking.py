"""Options, exit statuses and errors of the commands that query a host by its control socket."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import trio
from rich.console import Console

from knet_trio.cli.ending import describe_error, leave_without_result, run_until_signal
from knet_trio.control import (
    ControlClient,
    ControlError,
    ControlRequestError,
    connect_control,
    control_directories,
    find_control_sockets,
)

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DOWN: Final = 1
REFUSED: Final = 2
NOBODY_THERE: Final = 3

_ERRNO: Final = re.compile(r" \[E[A-Z0-9]+\]$")

EXPECTED: Final = (ControlError, trio.BrokenResourceError, BrokenPipeError)


def socket_option(command: F) -> F:
    """Add the option ``--socket`` to a command."""
    return click.option(
        "--socket",
        type=click.Path(path_type=Path),
        default=None,
        envvar="KNET_TRIO_SOCKET",
        help="The control socket of the running host.  [default: $KNET_TRIO_SOCKET, or the one in"
        " $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/knet-trio, or for root /run/knet-trio]",
    )(command)


def json_option(what: str) -> Callable[[F], F]:
    """Return a decorator that adds the option ``--json``, which prints ``what``."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


def choose_socket(socket: Path | None) -> Path:
    """Return the control socket to connect to; exit if there is none, or more than one."""
    if socket is not None:
        return socket
    found = find_control_sockets()
    if not found:
        places = ", ".join(map(str, control_directories())) or "no directory, as none is set"
        leave(
            f"no running host found in {places}: start one, or give its control socket by --socket",
            NOBODY_THERE,
        )
    if len(found) > 1:
        names = "\n".join(f"  --socket {path}" for path in found)
        leave(
            f"several hosts run on this machine: choose one of\n{names}\n"
            "or set KNET_TRIO_SOCKET to its path, for all commands",
            REFUSED,
        )
    return found[0]


def look(socket: Path | None, run: Callable[[ControlClient], Awaitable[T]]) -> T:
    """Call ``run`` with a client of the running host, and return its result.

    Exits if there is no running host, if the host refuses a request or ends, or after a signal.
    """
    results: list[T] = []
    outcome = run_until_signal(partial(_look, choose_socket(socket), run, results), *EXPECTED)
    if not results:
        leave_by(outcome)
    return results[0]


async def _look(path: Path, run: Callable[[ControlClient], Awaitable[T]], results: list[T]) -> None:
    async with connect_control(path) as client:
        results.append(await run(client))


def leave_by(outcome: object) -> NoReturn:
    """Exit because of an error or a signal, with a message."""
    if isinstance(outcome, ControlRequestError):
        # The reason may end with an errno, which is for programs.
        leave(_ERRNO.sub("", outcome.reason), REFUSED)
    if isinstance(outcome, ControlError | trio.BrokenResourceError):
        leave(describe_error(outcome), NOBODY_THERE)
    leave_without_result(outcome, "the command cannot go on")


def leave(message: str, status: int) -> NoReturn:
    """Exit with a message on standard error."""
    click.echo(f"knet-trio: {message}", err=True)
    sys.exit(status)


class OutputConsole(Console):
    """A console that raises an error when its reader has gone, and does not exit by itself."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error, where rich would exit."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


def open_console() -> Console:
    """Return the console for standard output: with colours on a terminal, else without a width."""
    if sys.stdout.isatty():
        return OutputConsole(highlight=False)
    return OutputConsole(highlight=False, no_color=True, width=10_000)
