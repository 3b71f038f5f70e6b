"""What the interop tests share. They need libknet, and some of them root for namespaces.

Where that is missing they skip and say how to get it; with the environment variable CI set
they fail instead, so that no pipeline passes by not testing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from tests.interop.libknet import libknet_missing
from tests.interop.namespaces import NamespacePair, namespace_pair, namespaces_missing


class OpenNamespaces(Protocol):
    """`namespace_pair`, for a test that wants another number of links or another MTU."""

    def __call__(
        self, links: int = 2, *, mtu: int = 1500
    ) -> AbstractContextManager[NamespacePair]: ...


def need(missing: str | None) -> None:
    """Go on when nothing is missing; else skip the test, or fail it where CI is set."""
    if missing is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing may be missing: {missing}", pytrace=False)
    pytest.skip(missing)


@pytest.fixture(scope="session", autouse=True)
def libknet() -> None:
    """Every test here has the C library, or does not run."""
    need(libknet_missing())


@pytest.fixture(scope="session")
def open_namespaces() -> OpenNamespaces:
    """Makes namespaces; asking for it skips (or fails) the test where they cannot be made."""
    need(namespaces_missing())
    return namespace_pair


@pytest.fixture
def namespaces(open_namespaces: OpenNamespaces) -> Iterator[NamespacePair]:
    """Two namespaces joined by two veth pairs with an MTU of 1500."""
    with open_namespaces() as pair:
        yield pair


@pytest.fixture(scope="session")
def c_key() -> bytes:
    """A shared key of 1024 bytes."""
    return bytes(range(256)) * 4
