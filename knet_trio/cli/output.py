"""Standard output that is closed, is full, or cannot encode a character."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

from knet_trio.cli.ending import FAILED, first_of

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def fill_descriptors() -> None:
    """Open ``/dev/null`` for each standard stream that is closed.

    Otherwise the next file or socket would get its number, and log lines would go to a peer.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


def escape_what_is_missing() -> None:
    """Write characters that standard output cannot encode as escapes, as standard error does."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")


def status_of(errors: BaseExceptionGroup[OSError]) -> int | None:
    """Return the exit status if the output cannot be written, and say so; None for other errors."""
    error = first_of(errors)
    if not isinstance(error, OSError) or error.errno not in _UNWRITABLE:
        return None
    # Flushing the buffer at the end of the process must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        why = os.strerror(error.errno)
        print(f"knet-trio: the output cannot be written: {why}", file=sys.stderr)
    return FAILED
