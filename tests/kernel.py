"""What the kernel that the tests run on has."""

from __future__ import annotations

import errno
import socket


def kernel_has_sctp() -> bool:
    """Whether it has SCTP, or loads it when it is asked for."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise
        return False
    return True
