"""SCTP where the kernel has none; tests/machine has a kernel that does."""

from __future__ import annotations

import errno

import pytest

from knet_trio import TransportError, open_handle
from tests.cluster import LOCALHOST
from tests.kernel import kernel_has_sctp

pytestmark = pytest.mark.skipif(kernel_has_sctp(), reason="this kernel has SCTP")


@pytest.mark.parametrize(("src", "dst"), [(LOCALHOST, "127.0.0.2"), ("::1", "::2"), ("::1", None)])
async def test_without_it_the_error_says_what_to_do(src: str, dst: str | None) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(2)
        to = None if dst is None else (dst, 5405)
        with pytest.raises(TransportError, match="modprobe sctp") as caught:
            await host.add_link(0, (src, 5405), to, transport="SCTP")
        assert caught.value.errno == errno.EPROTONOSUPPORT
        assert not host.links
        # Nothing is left of it: the link id is free.
        await host.add_link(0, (src, 0), to, transport="udp")
