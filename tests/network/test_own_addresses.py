"""Which addresses are this machine's, as the kernel has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import trio

from knet_trio import AclEntry, open_handle
from knet_trio._transport.interfaces import is_local
from tests.interop.namespaces import namespace_pair

LIMIT: Final = 60.0


def allow_nonlocal_bind(value: str) -> None:
    """Of the namespace that this thread is in."""
    Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text(value)


@pytest.mark.parametrize("nonlocal_bind", ["0", "1"])
async def test_a_machine_that_may_bind_to_any_address_has_its_own_all_the_same(
    nonlocal_bind: str,
) -> None:
    """Where addresses move from machine to machine, that is set, and peers are still peers."""
    with trio.fail_after(LIMIT), namespace_pair(1) as namespaces, namespaces.inside(0):
        allow_nonlocal_bind(nonlocal_bind)
        assert is_local(namespaces.v4(0, 0))
        assert not is_local(namespaces.v4(1, 0))
        assert not is_local("192.0.2.1")
        async with open_handle(1) as ours, open_handle(2) as theirs:
            link = await ours.add_host(2).add_link(0, ("0.0.0.0", 5405), ping_interval=0.1)
            link.acl.append(AclEntry.address(namespaces.v4(1, 0)))
            with namespaces.inside(1):
                await theirs.add_host(1).add_link(
                    0, (namespaces.v4(1, 0), 5405), (namespaces.v4(0, 0), 5405), ping_interval=0.1
                )
            await link.wait_connected()
