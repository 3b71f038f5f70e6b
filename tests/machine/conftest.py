"""What the tests in the machine share. Outside of it they skip: they need its kernel."""

from __future__ import annotations

import os

import pytest

from tests.interop.conftest import need
from tests.interop.libknet import libknet_missing
from tests.interop.namespaces import namespaces_missing
from tests.machine.boot import INSIDE
from tests.network.conftest import long, program

__all__ = ["long", "program"]


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Every test here is in the machine, or does not run."""
    if os.environ.get(INSIDE) != "1":
        pytest.skip("these tests run in a virtual machine: nox -s machine")
    need(namespaces_missing())
    need(libknet_missing())


@pytest.fixture(params=["udp", "sctp"])
def transport(request: pytest.FixtureRequest) -> str:
    """What carries the packets of all links."""
    name: str = request.param
    return name
