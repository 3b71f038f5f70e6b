"""Two hosts of a cluster file, brought to other versions of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from knet_trio import Broadcast, FilterPacket, FilterResult, Handle
from knet_trio.cluster import Cluster, Reloaded, get_cluster, load_cluster, open_cluster, reload
from knet_trio.testing import open_network
from tests.cluster import KEY, PATIENCE
from tests.cluster.files import LAB, write_file

SETTINGS = """\
allow_clear_traffic = true
access_lists = false
mtu = 1400
pmtud_interval = 5
reconnect_interval = 2
hedge = false
dscp = 10
log_level = "debug"
compress = { model = "zlib" }
policy = "active"
filter = "tests.cluster.meshes:passes"
"""


NEW_KEY = KEY[:256][::-1]
GAMMA = '[[hosts]]\nid = 3\nname = "gamma"\nlinks = ["10.0.0.3", "10.1.0.3"]\n'


def passes(packet: FilterPacket) -> FilterResult:
    """A filter that a file can name."""
    return Broadcast(packet.channel)


@attrs.frozen
class Mesh:
    """Two hosts of a file on a simulated network, and the directory that the file is in."""

    alpha: Handle
    beta: Handle
    directory: Path

    def load(self, *changes: tuple[str, str], text: str = LAB) -> Cluster:
        """The file with these changes of its text."""
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        return load_cluster(write_file(self.directory, text))

    async def change(self, *changes: tuple[str, str], text: str = LAB) -> Reloaded:
        """Bring both hosts to the file with these changes; what alpha says of it."""
        cluster = self.load(*changes, text=text)
        reloaded = await reload(self.alpha, cluster)
        await reload(self.beta, cluster)
        return reloaded


@asynccontextmanager
async def open_mesh(directory: Path, text: str = LAB) -> AsyncGenerator[Mesh]:
    path = write_file(directory, text)
    async with (
        open_network(1),
        open_cluster(path, host=1) as alpha,
        open_cluster(path, host=2) as beta,
    ):
        with trio.fail_after(PATIENCE):
            for handle in (alpha, beta):
                for host in handle.hosts.values():
                    if host.host_id != 3:
                        await host.wait_reachable()
        yield Mesh(alpha, beta, directory)


@asynccontextmanager
async def nothing_lost(mesh: Mesh, *, pause: float = 0.01) -> AsyncGenerator[None]:
    """Send from alpha to beta in the block, and see that all of it arrives, in order."""
    inbox, outbox = mesh.beta.open_channel(0), mesh.alpha.open_channel(0)
    sent = 0

    async def send(scope: trio.CancelScope) -> None:
        nonlocal sent
        while not scope.cancel_called:
            await outbox.send(sent.to_bytes(4, "big"))
            sent += 1
            await trio.sleep(pause)

    received: list[int] = []

    async def receive() -> None:
        while True:
            received.append(int.from_bytes((await inbox.receive()).data, "big"))

    async with trio.open_nursery() as nursery:
        ends = trio.CancelScope()
        nursery.start_soon(receive)
        nursery.start_soon(send, ends)
        await trio.sleep(1)
        yield
        await trio.sleep(1)
        ends.cancel()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    inbox.close()
    outbox.close()
    assert sent > 150
    assert received == list(range(sent))


def state(handle: Handle) -> object:
    """All that a reload could change, but for links that were down for a moment."""
    names = (
        *("allow_clear_traffic", "access_lists", "mtu", "pmtud_interval", "reconnect_interval"),
        *("hedge", "dscp", "forwarding"),
    )
    hosts = {
        host.host_id: (
            host.name,
            host.policy,
            {
                link.link_id: (link.config, link.enabled, list(link.acl))
                for link in host.links.values()
            },
        )
        for host in handle.hosts.values()
    }
    settings = [getattr(handle, name) for name in names]
    return settings, hosts, handle.get_log_level("link"), get_cluster(handle)
