"""The end of a command: by itself, by a signal, or by an error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol, TypeVar, cast, runtime_checkable

import click
import trio

from knet_trio import KnetError

FAILED: Final = 1
_BY_SIGNAL: Final = 128
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


@runtime_checkable
class _HasCommandText(Protocol):
    """An error whose message differs for users of commands."""

    @property
    def for_commands(self) -> str:
        """The message."""
        ...


def run_until_signal(
    run: Callable[[], Awaitable[T]],
    *expected: type[BaseException],
    stop: Callable[[], None] | None = None,
) -> T | signal.Signals | BaseException:
    """Run an async function until it returns, a signal comes, or an expected error is raised.

    Args:
        run: The function to run.
        expected: The errors that are returned; all others are raised.
        stop: Called after the first signal, to ask ``run`` to end; only a second signal cancels
            it then. None if the first signal cancels it.

    Returns:
        The result of ``run``, or the signal or the first expected error that ended it.
    """
    try:
        return trio.run(_until_signal, run, stop)
    except* expected as errors:
        # Several tasks may have raised the same error.
        trouble = first_of(errors)
    return trouble


def describe_error(error: BaseException) -> str:
    """Return the message of an error for people: without the errno, which is for programs."""
    if isinstance(error, _HasCommandText):
        return error.for_commands
    return str(error.args[0]) if isinstance(error, KnetError) else str(error)


def status_after(number: signal.Signals) -> int:
    """Return the exit status of a command that a signal has ended."""
    return _BY_SIGNAL + number


def leave_without_result(outcome: object, trouble: str) -> NoReturn:
    """Exit because of a signal or an error; ``trouble`` introduces the error's message."""
    if isinstance(outcome, signal.Signals):
        click.echo(f"ended by {outcome.name}", err=True)
        sys.exit(status_after(outcome))
    if isinstance(outcome, BrokenPipeError):
        _forget_output()
        sys.exit(FAILED)
    text = describe_error(outcome) if isinstance(outcome, BaseException) else outcome
    raise click.ClickException(f"{trouble}: {text}")


async def _until_signal(
    run: Callable[[], Awaitable[T]], stop: Callable[[], None] | None
) -> T | signal.Signals:
    ended_by: signal.Signals | None = None
    results: list[T] = []
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def wait_signal() -> None:
                nonlocal ended_by
                async for number in signals:
                    if stop is not None and ended_by is None:
                        stop()
                    else:
                        nursery.cancel_scope.cancel()
                    ended_by = signal.Signals(number)

            nursery.start_soon(wait_signal)
            results.append(await run())
            nursery.cancel_scope.cancel()
    if results and (stop is None or ended_by is None):
        return results[0]
    assert ended_by is not None
    return ended_by


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of an exception group, whatever its depth."""
    error = errors.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return first_of(cast("BaseExceptionGroup[BaseException]", error))
    return error


def _forget_output() -> None:
    # The reader has gone; flushing the buffer at the end of the process must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
