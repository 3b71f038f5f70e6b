"""The errors of changing the key."""

from __future__ import annotations

import errno

from knet_trio import KnetError


class RekeyError(KnetError):
    """The key cannot be changed; the text says why. This call has changed nothing."""

    errno: int = errno.EPERM


class RekeyBusyError(RekeyError):
    """Another host is changing the key, or this host in another call."""

    errno: int = errno.EBUSY
