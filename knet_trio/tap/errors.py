"""What can go wrong with a tap device."""

from __future__ import annotations

import os

from knet_trio import KnetError


class TapError(KnetError):
    """The system refuses a tap device, or something of it; ``errno`` is the system's."""

    @classmethod
    def from_os_error(cls, doing: str, error: OSError, advice: str = "") -> TapError:
        """Return the error for a call that was refused while ``doing`` something.

        Args:
            doing: What cannot be done, such as ``cannot make the tap device knet0``.
            error: What the system said.
            advice: What to do about it.
        """
        number = error.errno or 0
        text = f"{doing}: {os.strerror(number) if number else error}"
        return cls(f"{text}; {advice}" if advice else text, errno=number)
