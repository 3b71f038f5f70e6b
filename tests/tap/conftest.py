"""What the tests of taps share. They need root and /dev/net/tun."""

from __future__ import annotations

import pytest
import trio

from tests.interop.conftest import need
from tests.tap.ethernet import taps_missing


@pytest.fixture(scope="session")
def taps() -> None:
    """A test that asks for it has tap devices, or does not run."""
    need(trio.run(taps_missing))
