"""The start of contenders: pairs of their processes, joined by links."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from knet_trio.cli.bench.dam import Dam, open_dam
from knet_trio.cli.bench.network import Network, open_network
from knet_trio.cli.bench.process import BenchError, PeerProcess, open_peer

if TYPE_CHECKING:
    from knet_trio.cli.bench.case import Case

OURS: Final = "knet_trio"
LIBKNET: Final = "libknet"
# A bare UDP socket of Trio, the lower limit of any program on Trio.
BARE: Final = "bare-trio"
# knet_trio with encryption that libknet has too, to compare with its own AEAD models.
ENVELOPED: Final = "aes256-sha256"
# knet_trio's messages, which may be lost, to compare with its streams.
MESSAGES: Final = "messages"
# A TCP socket of Trio.
TCP: Final = "tcp"
# Other ways to send messages: the engine of the peer, and the module it needs.
PLAIN: Final = {
    "pyzmq": ("zmq", "zmq"),
    "pynng": ("nng", "pynng"),
    "sockets": ("udp", "socket"),
}
# Other streams: the engine of the peer, and the module it needs.
STREAMING: Final = {
    TCP: ("tcp", "trio"),
    "aioquic": ("quic", "aioquic"),
}

# Seconds: far more than a link on one machine takes to come up.
_UP_LIMIT: Final = 30.0
# The same in every run, since nothing is secret here.
_KEY: Final = bytes(range(256)).hex()


@attrs.frozen
class Dressing:
    """The encryption and compression of messages.

    Attributes:
        name: The name in cases.
        cipher: The cipher, empty for none.
        hash: The hash of the encryption.
        compress: The model of compression, empty for none.
        payload: The kind of payload: ``random`` or ``text``.
        model: The model of encryption, empty for the default.
    """

    name: str
    cipher: str = ""
    hash: str = ""
    compress: str = ""
    payload: str = "random"
    model: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of the command ``handle``."""
        arguments: dict[str, str] = {}
        if self.cipher:
            arguments |= {"cipher": self.cipher, "hash": self.hash, "key": _KEY}
        if self.model:
            arguments["model"] = self.model
        if self.compress:
            arguments["compress"] = self.compress
        return arguments


CLEAR: Final = Dressing("clear")
AES: Final = Dressing("aes256-sha256", "aes256", "sha256")


@attrs.frozen
class Timers:
    """The timers of a link.

    Attributes:
        ping: The ping interval, in seconds.
        timeout: The pong timeout, in seconds.
        pongs: The number of pongs that bring the link up.
    """

    ping: float = 0.1
    timeout: float = 2.0
    pongs: int = 2

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments of the command ``link``."""
        return {"ping": self.ping, "timeout": self.timeout, "pongs": self.pongs}


@attrs.frozen
class Dammed:
    """Hosts 1 and 2, and the dam between them: see ``Dam``.

    Attributes:
        low: The process of host 1.
        high: The process of host 2.
        dam: The dam.
        address: The address of host 1.
    """

    low: PeerProcess
    high: PeerProcess
    dam: Dam
    address: tuple[str, int]


@attrs.frozen
class Bed:
    """The commands of the contenders, and the times of measurements.

    Attributes:
        commands: The command of each contender's process, by the contender's name.
        seconds: How long a turn measures, in seconds.
        load_seconds: How long cases with lasting load measure, in seconds.
        settle_seconds: How long links are up before their failover is measured, in seconds: in the
            first ten seconds the pong timeout of a link is longer, here and in libknet.
        pin: True to bind each process to one CPU.
    """

    commands: Mapping[str, Sequence[str]]
    seconds: float
    load_seconds: float = 30.0
    settle_seconds: float = 11.0
    pin: bool = False

    def open_network(self, case: Case) -> AbstractAsyncContextManager[Network]:
        """Open the network that a case needs; it is removed after the block."""
        return open_network(case.network, case.links)

    @asynccontextmanager
    async def open_peers(
        self, contender: str, network: Network
    ) -> AsyncGenerator[tuple[PeerProcess, PeerProcess]]:
        """Start a process of a contender on each side."""
        command = self.commands[contender]
        cpus = sorted(os.sched_getaffinity(0))
        async with AsyncExitStack() as stack:
            peers = [
                await stack.enter_async_context(
                    open_peer(
                        command,
                        namespace=network.namespace(side),
                        cpu=cpus[side % len(cpus)] if self.pin else None,
                    )
                )
                for side in (0, 1)
            ]
            yield peers[0], peers[1]

    @asynccontextmanager
    async def open_pair(
        self,
        contender: str,
        network: Network,
        *,
        dressing: Dressing = CLEAR,
        links: int = 1,
        policy: str = "passive",
        timers: Timers | None = None,
        hedge: bool = True,
    ) -> AsyncGenerator[tuple[PeerProcess, PeerProcess]]:
        """Open host 1 in a process on side 0 and host 2 on side 1, with their links up.

        Link 0 has the highest priority. PMTUd has ended on all links.

        Args:
            contender: The name of the contender.
            network: The network.
            dressing: The encryption and compression.
            links: The number of links.
            policy: The policy of the links.
            timers: The timers of the links, None for the default ones.
            hedge: False to send over one link only while there is doubt about it.

        Yields:
            The processes of hosts 1 and 2.
        """
        async with self.open_peers(contender, network) as peers:
            for side, peer in enumerate(peers):
                extra = {} if hedge else {"hedge": 0}
                await peer.call("handle", id=side + 1, **dressing.arguments, **extra)
                await peer.call("host", handle=side + 1, id=2 - side, policy=policy)
            for link in range(links):
                await join(peers, network, link, timers=timers or Timers(), priority=links - link)
            await wait_up({1: peers[0], 2: peers[1]}, network.least_mtu)
            yield peers

    @asynccontextmanager
    async def open_dammed(
        self, contender: str, network: Network, *, dressing: Dressing, timers: Timers
    ) -> AsyncGenerator[Dammed]:
        """Open hosts 1 and 2 with a link through a dam; the link is up."""
        ends = [(network.address(i, 0), network.take_port(i, 0)) for i in (0, 1)]
        async with (
            self.open_peers(contender, network) as (low, high),
            open_dam(*ends) as dam,
        ):
            for id, peer, other in ((1, low, dam.low), (2, high, dam.high)):
                src, dst = (f"{host}:{port}" for host, port in (ends[id - 1], other))
                await peer.call("handle", id=id, **dressing.arguments)
                await peer.call("host", handle=id, id=3 - id)
                link = {"id": 0, "src": src, "dst": dst, **timers.arguments}
                await peer.call("link", handle=id, host=3 - id, **link)
            await wait_up({1: low, 2: high}, 0)
            yield Dammed(low, high, dam, ends[0])

    @asynccontextmanager
    async def open_star(
        self,
        contender: str,
        network: Network,
        *,
        hosts: int,
        links: int,
        timers: Timers,
        dressing: Dressing = CLEAR,
        policy: str = "passive",
    ) -> AsyncGenerator[tuple[PeerProcess, PeerProcess]]:
        """Open host 1 in one process and hosts 2, 3, … in the other, all with links to host 1."""
        async with self.open_peers(contender, network) as peers:
            hub, rim = peers
            ids = range(2, 2 + hosts)
            await hub.call("handle", id=1, **dressing.arguments)
            # One local port for each link id, as programs do.
            ports = [network.take_port(0, 0) for _ in range(links)]
            for host in ids:
                await rim.call("handle", id=host, **dressing.arguments)
                await rim.call("host", handle=host, id=1, policy=policy)
                await hub.call("host", handle=1, id=host, policy=policy)
                for link, port in enumerate(ports):
                    here = f"{network.address(0, 0)}:{port}"
                    there = f"{network.address(1, 0)}:{network.take_port(1, 0)}"
                    common = {"id": link, **timers.arguments}
                    await hub.call("link", handle=1, host=host, src=here, dst=there, **common)
                    await rim.call("link", handle=host, host=1, src=there, dst=here, **common)
            await wait_up({1: hub, **dict.fromkeys(ids, rim)}, network.least_mtu)
            yield peers


async def join(
    peers: tuple[PeerProcess, PeerProcess],
    network: Network,
    link: int,
    *,
    timers: Timers,
    priority: int = 0,
    enabled: bool = True,
) -> None:
    """Add a link between hosts 1 and 2 of a pair.

    Args:
        peers: The processes of hosts 1 and 2.
        network: The network.
        link: The id of the link.
        timers: The timers of the link.
        priority: The priority of the link.
        enabled: True to enable the link.
    """
    ends = [f"{network.address(side, link)}:{network.take_port(side, link)}" for side in (0, 1)]
    for side, peer in enumerate(peers):
        await peer.call(
            "link",
            handle=side + 1,
            host=2 - side,
            id=link,
            src=ends[side],
            dst=ends[1 - side],
            priority=priority,
            enabled=int(enabled),
            **timers.arguments,
        )


async def wait_up(peers: Mapping[int, PeerProcess], mtu: int) -> dict[int, dict[str, Any]]:
    """Wait until the links are up and the path MTU is known.

    Args:
        peers: The processes by the ids of their hosts.
        mtu: The smallest data MTU to wait for, in bytes.

    Returns:
        The answers of the processes, by the same ids.

    Raises:
        BenchError: The links did not come up in time.
    """
    answers: dict[int, dict[str, Any]] = {}

    async def wait(handle: int, peer: PeerProcess) -> None:
        answers[handle] = await peer.call("up", handle=handle, mtu=mtu)

    with trio.move_on_after(_UP_LIMIT) as scope:
        async with trio.open_nursery() as nursery:
            for handle, peer in peers.items():
                nursery.start_soon(wait, handle, peer)
    if scope.cancelled_caught:
        raise BenchError(f"the links did not come up with an MTU of {mtu} in {_UP_LIMIT:g} s")
    return answers
