"""What the tests of real networks share. They need root, /dev/net/tun, and half of them libknet.

Where that is missing they skip and say how to get it, or fail where CI is set.
"""

from __future__ import annotations

import os

import pytest

from tests.interop.c_node import LIBKNET
from tests.interop.conftest import need
from tests.interop.libknet import libknet_missing
from tests.network.wires import wires_missing

KNET_TRIO = "tests.network.trio_process"


@pytest.fixture(scope="session", autouse=True)
def wires_can_be_made() -> None:
    """Every test here has its wires, or does not run."""
    need(wires_missing())


@pytest.fixture(params=["knet_trio", "libknet"])
def program(request: pytest.FixtureRequest) -> str:
    """What the peer runs: a handle of ours in a process of its own, or the C library."""
    if request.param == "knet_trio":
        return KNET_TRIO
    need(libknet_missing())
    return LIBKNET


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the tests take the time that what they are about takes in real life."""
    return os.environ.get("KNET_TRIO_LONG") == "1"
