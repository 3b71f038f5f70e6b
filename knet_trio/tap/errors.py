"""The error of tap devices."""

from __future__ import annotations

import os

from knet_trio import KnetError


class TapError(KnetError):
    """The system refused a call on a tap device; ``errno`` is the system's error number."""

    @classmethod
    def from_os_error(cls, doing: str, error: OSError, advice: str = "") -> TapError:
        """Return the error for a system call that was refused.

        Args:
            doing: The operation that failed, such as ``cannot make the tap device knet0``.
            error: The error of the system call.
            advice: What to do about it; may be empty.
        """
        number = error.errno or 0
        text = f"{doing}: {os.strerror(number) if number else error}"
        return cls(f"{text}; {advice}" if advice else text, errno=number)
