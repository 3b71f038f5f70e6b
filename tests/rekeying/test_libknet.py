"""A host of libknet's among ours is named, and left out when its key has been changed by hand."""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from knet_trio.cluster import open_cluster
from knet_trio.rekeying import HostOutcome, Phase, Rekeying, RekeyReport, serve_rekeying
from tests.cluster import KEY, PATIENCE
from tests.interop.c_node import CCrypto, CNode, open_c_node
from tests.interop.conftest import need
from tests.interop.libknet import libknet_missing
from tests.ports import free_udp_port
from tests.rekeying.processes import write_clusters

LIBKNET = 3


@pytest.fixture(autouse=True)
def libknet() -> None:
    need(libknet_missing())


async def add_links(c: CNode, ports: dict[int, int]) -> None:
    for host_id in (1, 2):
        await c.add_host(host_id)
        here, there = ("127.0.0.1", ports[LIBKNET]), ("127.0.0.1", ports[host_id])
        await c.add_link(host_id, 0, here, there)


def outcomes(report: RekeyReport) -> list[HostOutcome]:
    return [host.outcome for host in report.hosts]


async def test_it_is_named_and_then_left_out(tmp_path: Path) -> None:
    ports = {host_id: free_udp_port() for host_id in (1, 2, LIBKNET)}
    files = write_clusters(tmp_path, ports)
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            services: dict[int, Rekeying] = {}
            handles: dict[int, Any] = {}
            for host_id in (1, 2):
                opening = open_cluster(files[host_id], host=host_id)
                handles[host_id] = await stack.enter_async_context(opening)
                serving = serve_rekeying(handles[host_id], patience=2.0)
                services[host_id] = await stack.enter_async_context(serving)
            crypto = CCrypto(key=KEY[:256])
            c = await stack.enter_async_context(open_c_node(LIBKNET, crypto=crypto))
            await add_links(c, ports)
            for host_id, handle in handles.items():
                for other in ports.keys() - {host_id}:
                    await handle.get_host(other).wait_reachable()
                await c.wait_reachable(host_id)

            report = await services[1].rekey()
            assert (report.done, report.phase) == (False, None)
            waiting = HostOutcome.WAITING
            assert outcomes(report) == [waiting, waiting, HostOutcome.BY_HAND]
            assert [host.phase for host in report.hosts] == [Phase.SET, Phase.SET, None]
            assert "does not answer on channel 31: if it runs libknet" in report.hosts[2].reason
            # What is said to do: the new key is where docs/commands.md says.
            beside = json.loads((files[1].parent / "lab.key.rekey").read_bytes())
            new = base64.b64decode(beside["new"])
            await c.set_crypto("openssl", "aes256", "sha256", new, 2)
            await c.use_crypto(2)

            report = await services[2].rekey(exclude=["host3"])
            assert report.done
            assert report.resumed
            done = HostOutcome.DONE
            assert outcomes(report) == [done, done, HostOutcome.EXCLUDED]
            for host_id in (1, 2):
                assert (files[host_id].parent / "lab.key").read_bytes() == new
            # All three go on with it.
            inbox = handles[1].open_channel(0)
            await c.send(b"sealed with the new key")
            assert (await inbox.receive()).data == b"sealed with the new key"
            outbox = handles[2].open_channel(0)
            await outbox.send(b"so is this", to=LIBKNET)
            assert await c.receive() == (0, b"so is this")
