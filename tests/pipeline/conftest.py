"""Turns do not depend on how fast the machine is: they end where a test counts them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from knet_trio._state.turns import counted_turns


@pytest.fixture(autouse=True)
def endless_turns() -> Generator[None, None, None]:
    """No turn ends, unless a test says otherwise."""
    with counted_turns(step=0.0):
        yield
