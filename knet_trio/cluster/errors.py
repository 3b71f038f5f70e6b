"""The mistakes in a cluster file, and the errors of loading and reloading one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from knet_trio.errors import InvalidArgumentError, KnetError


@attrs.frozen
class Mistake:
    """A mistake in a cluster file, or a warning about it.

    Attributes:
        text: What is wrong and what to do about it.
        line: The line, counted from 1; None if the mistake has no line.
        column: The column, counted from 1.
        key: The key, such as ``cluster.links.ping_interval``.
    """

    text: str
    line: int | None = None
    column: int | None = None
    key: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text

    def describe(self, path: str | os.PathLike[str]) -> str:
        """Return one line with file, line, column and text, as compilers print it.

        Args:
            path: The file.
        """
        place = [os.fspath(path)]
        if self.line is not None:
            place.append(str(self.line))
            if self.column is not None:
                place.append(str(self.column))
        return f"{':'.join(place)}: {self}"


class ClusterFileError(InvalidArgumentError):
    """A cluster file cannot be used. The text has a line for each mistake.

    Attributes:
        path: The file.
        mistakes: All mistakes in the file, in the order of its lines.
    """

    def __init__(self, path: str | os.PathLike[str], mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(mistake.describe(path) for mistake in mistakes))
        self.path: str = os.fspath(path)
        self.mistakes: tuple[Mistake, ...] = tuple(mistakes)

    def __str__(self) -> str:
        # Without the errno, which would follow the last mistake only.
        return str(self.args[0])


class ReloadError(KnetError):
    """A running handle could not change to another version of its file.

    The handle is unchanged. ``__cause__`` is the error of the change that failed, if one was
    attempted.

    Attributes:
        reasons: The changes that cannot be made, or the one that failed.
        not_undone: The changes that could not be undone after the failure; nearly always empty.
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
            text = f"{text}; this could not be undone: {'; '.join(not_undone)}"
        else:
            text = f"{text}; nothing has changed"
        super().__init__(text, errno=errno)
        self.reasons: tuple[str, ...] = tuple(reasons)
        self.not_undone: tuple[str, ...] = tuple(not_undone)
