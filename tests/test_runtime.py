"""The process that handles run in: what opening one does to its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# The page faults of 200 rounds in which three large messages come and go.
FAULTS = """
import resource
import trio
from knet_trio import open_handle

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        messages = [bytes([1]) * 65000 for _ in range(3)]
        joined = b"".join(messages)
        del messages, joined
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

async def main():
    async with open_handle(host_id=1):
        print(faults())

trio.run(main)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_large_messages_that_come_and_go_cost_no_page_faults() -> None:
    def count() -> int:
        run = subprocess.run(
            [sys.executable, "-c", FAULTS],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return int(run.stdout)

    # Less than one in a round: without a handle, they may be 48 in each.
    assert count() < 200
