"""Processes that no test leaves behind."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import AnyStr


@contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Generator[subprocess.Popen[AnyStr]]:
    """The process. The block waits for its end, and kills it if left by an exception."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
