"""What the interop tests share. They need libknet, and some of them root for namespaces.

Where that is missing they skip and say how to get it; with the environment variable CI set
they fail instead, so that no pipeline passes by not testing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from knet_trio._transport import offload
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


class Segmentation:
    """Whether the kernel cuts and joins our datagrams, and how long the longest train was."""

    def __init__(self, *, offloaded: bool) -> None:
        self.offloaded = offloaded
        self.longest = 0
        self._train_length = offload.train_length

    def train_length(self, datagrams: Sequence[bytes], start: int) -> int:
        """As in ``offload``, or 1."""
        length = self._train_length(datagrams, start) if self.offloaded else 1
        self.longest = max(self.longest, length)
        return length


@pytest.fixture(params=["trains", "datagrams"])
def segmentation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Segmentation:
    """With the kernel's help and without: on the wire, and to the C library, it is the same."""
    segmentation = Segmentation(offloaded=request.param == "trains")
    monkeypatch.setattr(offload, "train_length", segmentation.train_length)
    if not segmentation.offloaded:

        def refuse(_: socket.socket) -> bool:
            return False

        monkeypatch.setattr(offload, "receive_coalesced", refuse)
    return segmentation
