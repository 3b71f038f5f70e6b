"""Standard output that is closed, has no room, or lacks characters."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from knet_trio.cli.ending import FAILED, first_of

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def fill_descriptors() -> None:
    """Have something behind all three standard streams.

    Without that, what is opened next has their numbers: lines of the log would go to a peer.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It has the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


def escape_what_is_missing() -> None:
    """Have characters that the encoding of the output lacks written as escapes, as errors are."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")


def status_of(errors: BaseExceptionGroup[OSError]) -> int | None:
    """Say that the output cannot be written, and return the exit status; None if it is not that."""
    error = first_of(errors)
    if not isinstance(error, OSError) or error.errno not in _UNWRITABLE:
        return None
    # What is buffered must not fail once more at the end of the process.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        why = os.strerror(error.errno)
        print(f"knet-trio: the output cannot be written: {why}", file=sys.stderr)
    return FAILED
