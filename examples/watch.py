"""A host that tells what happens to its links, and why: ``python examples/watch.py``.

It has two links to a peer that runs only for a while, and no link is told that it leaves.
"""

from __future__ import annotations

import trio

from knet_trio import (
    DataMtuChanged,
    Handle,
    HostStatusChanged,
    LinkPolicy,
    LinkStatusChanged,
    open_handle,
)

LINKS = [
    (("127.0.0.1", 5425), ("127.0.0.2", 5425)),
    (("127.0.0.1", 5426), ("127.0.0.2", 5426)),
]


async def watch(handle: Handle, task_status: trio.TaskStatus[None]) -> None:
    """Print every event until the peer has come and gone."""
    async with handle.events() as events:
        task_status.started()
        async for event in events:
            match event:
                case LinkStatusChanged(host_id, link_id, connected, reason):
                    state = "up" if connected else "down"
                    print(f"link {link_id} to host {host_id} is {state}: {reason}")
                case HostStatusChanged(host_id, reachable):
                    print(f"host {host_id} is {'reachable' if reachable else 'unreachable'}")
                    if not reachable:
                        return
                case DataMtuChanged(data_mtu):
                    print(f"messages of up to {data_mtu} bytes go in one packet")
                case _:
                    print(event)


async def peer() -> None:
    """The other host: it stays until it is reachable, and leaves."""
    async with open_handle(2) as handle:
        host = handle.add_host(1)
        for link_id, (there, here) in enumerate(LINKS):
            await host.add_link(link_id, here, there, ping_interval=0.05, pong_count=1)
        await host.wait_reachable()
        await trio.sleep(0.5)


async def main() -> None:
    """Watch the peer come and go, and ask a link what became of it."""
    async with open_handle(1) as handle:
        host = handle.add_host(2, policy=LinkPolicy.ACTIVE)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, handle)
            for link_id, (here, there) in enumerate(LINKS):
                await host.add_link(link_id, here, there, ping_interval=0.05, pong_count=1)
            nursery.start_soon(peer)
        for link in host.links.values():
            print(link.explain())


trio.run(main)
