"""libknet's log records, written to a descriptor.

::

    | text, zero-terminated 254 | subsystem 1 | level 1 |

See knet_handle_new_ex(3). The layout is that of ``struct knet_log_msg``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
from typing import Final

from knet_trio._logs.names import LogLevel, LogSubsystem
from knet_trio.config import check_integer
from knet_trio.errors import InvalidArgumentError

_TEXT: Final = 254
_RECORD: Final = struct.Struct(f"{_TEXT}sBB")
RECORD_SIZE: Final = _RECORD.size
_MAX_FD: Final = 2**31 - 1


class LogDescriptor:
    """A writer of records that never waits: records that find no room are dropped and counted.

    The flags of the user's descriptor are not changed, and ``close`` leaves it open.

    Attributes:
        lost: The number of records dropped.

    Raises:
        InvalidArgumentError: The descriptor is not open for writing.
    """

    def __init__(self, fd: int) -> None:
        check_integer("log_fd", fd, 0, _MAX_FD)
        try:
            writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            # A duplicate: the user may close the descriptor, and the system may reuse its number
            # for something else.
            self._fd = os.dup(fd) if writable else -1
        except OSError as error:
            raise InvalidArgumentError(f"log_fd {fd}: {os.strerror(error.errno or 0)}") from error
        if not writable:
            raise InvalidArgumentError(
                f"log_fd {fd} is not open for writing: give the writing end of a pipe"
            )
        mode = os.fstat(self._fd).st_mode
        self._nowait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self.lost = 0
        self._reported = 0

    def write(self, subsystem: LogSubsystem, level: LogLevel, text: str) -> None:
        """Write a record, or drop and count it. Text that is too long is cut."""
        if self._reported != self.lost:
            missing = self.lost - self._reported
            notice = f"{missing} records before this one were lost: log_fd is not read fast enough"
            if self._put(encode_record(LogSubsystem.COMMON, LogLevel.WARNING, notice)):
                self._reported = self.lost
        if self._reported != self.lost or not self._put(encode_record(subsystem, level, text)):
            self.lost += 1

    def close(self) -> None:
        """Stop writing; the user's descriptor stays open."""
        os.close(self._fd)

    def _put(self, record: bytes) -> bool:
        """Write a record if there is room: a pipe takes a record this small whole or not at all."""
        try:
            if self._nowait:
                try:
                    os.pwritev(self._fd, (record,), -1, os.RWF_NOWAIT)
                    return True
                except OSError as error:
                    if error.errno != errno.EOPNOTSUPP:
                        raise
                    # Kernels before 6.4 do not support the flag for pipes and sockets.
                    self._nowait = False
            if not self._poll.poll(0):
                return False
            os.write(self._fd, record)
        except OSError:
            return False
        return True


def encode_record(subsystem: LogSubsystem, level: LogLevel, text: str) -> bytes:
    """Return a record of 256 bytes."""
    data = text.encode("utf-8", "replace")
    if len(data) >= _TEXT:
        # Do not cut within a character.
        data = data[: _TEXT - 1].decode("utf-8", "ignore").encode()
    return _RECORD.pack(data, subsystem, level)
