"""Why the key cannot be changed."""

from __future__ import annotations

import errno

from knet_trio import KnetError


class RekeyError(KnetError):
    """The key cannot be changed, and nothing has changed by this call; the text says why."""

    errno: int = errno.EPERM


class RekeyBusyError(RekeyError):
    """Another host changes the key at present, or this one does by another call."""

    errno: int = errno.EBUSY
