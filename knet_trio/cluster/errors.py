"""What is wrong with a cluster file, and why a handle could not be brought to it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from knet_trio.errors import InvalidArgumentError, KnetError


@attrs.frozen
class Mistake:
    """One thing that is wrong with a cluster file, or that is odd about it.

    Attributes:
        text: What is wrong and what to do about it.
        line: The line that it is about, the first is 1; None if it is about no line.
        column: The column in that line, the first is 1.
        key: The key that it is about, such as ``cluster.links.ping_interval``.
    """

    text: str
    line: int | None = None
    column: int | None = None
    key: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text

    def describe(self, path: str | os.PathLike[str]) -> str:
        """Return it in one line behind the file, line and column, as compilers do."""
        place = [os.fspath(path)]
        if self.line is not None:
            place.append(str(self.line))
            if self.column is not None:
                place.append(str(self.column))
        return f"{':'.join(place)}: {self}"


class ClusterFileError(InvalidArgumentError):
    """A cluster file cannot be used. Its text has a line for each mistake.

    Attributes:
        path: The file.
        mistakes: All that is wrong with it, in the order of its lines.
    """

    def __init__(self, path: str | os.PathLike[str], mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(mistake.describe(path) for mistake in mistakes))
        self.path: str = os.fspath(path)
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)

    def __str__(self) -> str:
        # Without the errno, which would stand behind the last mistake alone.
        return str(self.args[0])


class ReloadError(KnetError):
    """A running handle could not be brought to another version of its file.

    The handle is as it was before. ``__cause__`` is the error of the change that failed, if one
    was tried.

    Attributes:
        reasons: Each change that cannot be made, or the one that failed.
        not_undone: What could not be taken back after the failure; empty nearly always.
    """

    def __init__(
        self,
        reasons: Sequence[str],
        *,
        not_undone: Sequence[str] = (),
        errno: int | None = None,
    ) -> None:
        text = "; ".join(reasons)
        if not_undone:
            text = f"{text}; this could not be taken back: {'; '.join(not_undone)}"
        else:
            text = f"{text}; nothing has changed"
        super().__init__(text, errno=errno)
        self.reasons: tuple[str, ...] = tuple(reasons)
        self.not_undone: tuple[str, ...] = tuple(not_undone)
