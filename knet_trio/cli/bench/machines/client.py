"""The side that drives the bench between two machines."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Final

import attrs
import trio

from knet_trio import Handle, Host, KnetError, Link
from knet_trio.cli.bench.bed import OURS, Bed
from knet_trio.cli.bench.case import Case
from knet_trio.cli.bench.machine import Machine
from knet_trio.cli.bench.machines.place import Place
from knet_trio.cli.bench.machines.protocol import MAX_SIZE, PATIENCE, decode, encode
from knet_trio.cli.bench.machines.side import TROUBLE, Side, find_link_in_use, open_side
from knet_trio.cli.bench.network import Network
from knet_trio.cli.bench.process import BenchError, BenchPeer, PeerError
from knet_trio.cli.ending import describe_error, first_of
from knet_trio.cluster import ClusterHost, open_cluster
from knet_trio.streams import RefusedError, Streams, open_streams

# Seconds to wait for the server, for a slow link to come up, and for its PMTUd.
_REACH_LIMIT: Final = 15.0
_MTU_LIMIT: Final = 3.0
_END_LIMIT: Final = 2.0
_POLL: Final = 0.02
# Round trips to find the difference of the two clocks; the shortest one is the most exact.
_CLOCK_TRIES: Final = 8
# Arguments that are times of the monotonic clock.
_MOMENTS: Final = ("begin", "end", "stop")


class _Here(BenchPeer):
    """This side, as a peer."""

    def __init__(self, side: Side) -> None:
        self._side = side

    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Carry out a command: see ``BenchPeer.call``."""
        return _check(await self._side.carry_out(command, arguments))


class _There(BenchPeer):
    """The server, as a peer.

    Args:
        ask: Sends a request to the server.
        ahead: The seconds by which its clock is ahead of this one.
    """

    def __init__(self, ask: Callable[..., Awaitable[dict[str, Any]]], ahead: float) -> None:
        self._ask = ask
        self._ahead = ahead

    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send a command to the server: see ``BenchPeer.call``."""
        moved = {
            name: value + self._ahead if name in _MOMENTS and isinstance(value, float) else value
            for name, value in arguments.items()
        }
        return _check(await self._ask("call", command=command, arguments=moved))


def _check(answer: Any) -> dict[str, Any]:
    if "error" in answer:
        raise PeerError(str(answer["error"]))
    return dict(answer)


class Machines(Network):
    """This machine, side 0, and the server's, side 1, with links that are already open.

    Attributes:
        machine: The facts about the server's machine.
        version: The version of knet_trio on the server.
    """

    name = "machines"
    least_mtu = 0

    def __init__(self, place: Place, handle: Handle, host: Host, streams: Streams) -> None:
        self._place = place
        self._handle = handle
        self._host = host
        self._streams = streams
        self._session: str | None = None
        self._ahead = 0.0
        # Why the server is lost, None while it is not.
        self._lost: str | None = None
        self._case: trio.CancelScope | None = None
        self.machine: dict[str, Any] = {}
        self.version: str = ""

    def namespace(self, side: int) -> str | None:
        """Return None, since no namespaces are used."""
        return None

    def address(self, side: int, link: int) -> str:
        """Return the address of a side on a link, which is known when the link is up."""
        status = self._host.links[link].status
        return (status.dst_ipaddr or "") if side else status.src_ipaddr

    def take_port(self, side: int, link: int) -> int:
        """Return 0, since only the links need ports."""
        return 0

    @property
    def links(self) -> list[Link]:
        """The links that are enabled."""
        return [link for link in self._host.links.values() if link.enabled]

    @property
    def pong_timeout(self) -> float:
        """The longest pong timeout of the links, in seconds."""
        return max(link.config.pong_timeout for link in self.links)

    def find_link_in_use(self) -> int:
        """Return the id of the first link that messages go over.

        Raises:
            BenchError: There is none.
        """
        found = find_link_in_use(self._host)
        if found is None:
            raise BenchError("no link carries messages")
        return found

    async def begin(self) -> None:
        """Wait for the server and begin a session with it.

        Raises:
            BenchError: The server is not there, is busy, or has another version of the protocol.
        """
        with trio.move_on_after(_REACH_LIMIT) as scope:
            await self._host.wait_reachable()
        if scope.cancelled_caught:
            hint = "is `knet-trio bench --serve` running there, with the same key?"
            raise BenchError(f"{self._host.explain()}\n{hint}")
        welcome = await self._ask("hello")
        self._session = str(welcome["session"])
        self.machine = dict(welcome["machine"])
        self.version = str(welcome["knet_trio"])
        # The monotonic clocks of two machines are unrelated.
        await self._ask("open")
        differences: list[tuple[float, float]] = []
        for _ in range(_CLOCK_TRIES):
            asked = time.monotonic()
            there = float((await self._ask("call", command="usage", arguments={}))["now"])
            answered = time.monotonic()
            differences.append((answered - asked, there - (asked + answered) / 2))
        self._ahead = min(differences)[1]
        await self._ask("close")

    async def watch(self) -> None:
        """Wait until the server ends the session, and cancel the open case then."""
        # The request notes the reason.
        with suppress(BenchError):
            await self._ask("watch")
        if self._case is not None:
            self._case.cancel()

    async def end(self) -> None:
        """End the session at the server."""
        if self._session is not None and self._lost is None:
            # A server that has gone just now has ended the session itself.
            with suppress(BenchError):
                await self._ask("bye")

    async def wait_links(self, count: int = 1) -> list[str]:
        """Wait until all links are up and their path MTUs are known, for a limited time.

        Args:
            count: The number of links that have to be up.

        Returns:
            A line for each link that is down.

        Raises:
            BenchError: Fewer than ``count`` links came up.
        """
        slow = max((2 + link.config.pong_count) * link.config.ping_interval for link in self.links)
        with trio.move_on_after(_MTU_LIMIT + slow):
            for link in self.links:
                await link.wait_connected()
        up = [link for link in self.links if link.status.connected]
        if self._handle.mtu is None:
            with trio.move_on_after(_MTU_LIMIT):
                while not all(link.status.proto_overhead for link in up):  # noqa: ASYNC110  # there is no event
                    await trio.sleep(_POLL)
        down = [
            f"link {link.link_id} is down: {link.status.reason}"
            for link in self.links
            if link not in up
        ]
        if len(up) < count:
            raise BenchError(f"the case needs {count} links that are up; {'; '.join(down)}")
        return down

    @asynccontextmanager
    async def open_case(
        self, settle_seconds: float = 0.0, *, links: int = 1
    ) -> AsyncGenerator[tuple[BenchPeer, BenchPeer]]:
        """Open this side and the server's for a case.

        Args:
            settle_seconds: How long the links have to be up first, in seconds.
            links: The number of links that have to be up.

        Yields:
            This side and the server, as peers.

        Raises:
            BenchError: The server or its links are gone, or the case failed.
        """
        # First, or the links that went down with the server would be reported as the reason.
        await self._check_server()
        await self.wait_links(links)
        await self._ask("open")
        try:
            with trio.CancelScope() as self._case:
                async with open_side(self._handle, self._host, self._place.channels) as side:
                    since = max(link.status.since for link in self.links if link.status.connected)
                    await trio.sleep(max(0.0, since + settle_seconds - trio.current_time()))
                    yield _Here(side), _There(self._ask, self._ahead)
            if self._lost is not None:
                raise BenchError(self._lost)
        except* TROUBLE as errors:
            raise BenchError(self._lost or str(first_of(errors))) from None
        finally:
            self._case = None
            # The server enables its links again; the wait ends with the patience of the streams.
            with trio.CancelScope(shield=True):
                if self._lost is None:
                    await self._ask("close")

    async def _check_server(self) -> None:
        """Check that the session goes on.

        Raises:
            BenchError: It is over.
        """
        await trio.lowlevel.checkpoint()
        if self._lost is not None:
            raise BenchError(self._lost)

    async def _ask(self, do: str, **more: object) -> dict[str, Any]:
        """Send a request to the server and return the answer.

        Raises:
            BenchError: The server has gone, or refuses the request.
        """
        if self._lost is not None:
            raise BenchError(self._lost)
        message = {"do": do, "session": self._session, **more}
        try:
            answer = decode(await self._streams.request(self._host, encode(message)))
        except RefusedError as error:
            raise self._lose(f"{error}: the host runs, but does not serve the bench") from None
        except trio.BrokenResourceError as error:
            raise self._lose(f"the server has gone: {error}") from None
        if answer.get("over"):
            raise self._lose(str(answer["error"]))
        if "error" in answer and do != "call":
            raise BenchError(str(answer["error"]))
        return answer

    def _lose(self, why: str) -> BenchError:
        self._lost = why
        return BenchError(why)


def check_machines(network: Network) -> Machines:
    """Return the network of a case between machines.

    Raises:
        BenchError: It is another network.
    """
    if not isinstance(network, Machines):
        raise BenchError(f"the network {network.name} is not another machine")
    return network


@attrs.frozen
class MachineBed(Bed):
    """A bed that measures between two machines.

    Attributes:
        machines: The two machines.
    """

    machines: Machines | None = None

    def open_network(self, case: Case) -> AbstractAsyncContextManager[Network]:
        """Return the two machines."""
        assert self.machines is not None
        return nullcontext(self.machines)


def make_bed(machines: Machines, seconds: float, settle_seconds: float) -> MachineBed:
    """Return the bed of two machines, whose only contender is knet_trio."""
    return MachineBed(
        {OURS: ()}, seconds, load_seconds=0.0, settle_seconds=settle_seconds, machines=machines
    )


@asynccontextmanager
async def open_machines(place: Place, server: ClusterHost) -> AsyncGenerator[Machines]:
    """Open this host, and a session with the server; leaving the block ends both.

    Args:
        place: The hosts.
        server: The host that serves.

    Yields:
        The two machines.

    Raises:
        BenchError: The host or the session cannot be opened.
    """
    keep = attrs.evolve(place.cluster, hosts=(place.me, server))
    failed: BenchError | None = None
    try:
        async with open_cluster(keep, host=place.me.host_id) as handle:
            channel = place.service_channel
            async with open_streams(
                handle, channel=channel, patience=PATIENCE, max_size=MAX_SIZE
            ) as streams:
                host = handle.get_host(server.host_id)
                machines = Machines(place, handle, host, streams)
                try:
                    await machines.begin()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(machines.watch)
                        yield machines
                        nursery.cancel_scope.cancel()
                finally:
                    # Also after Ctrl-C, so that the server is free for others at once.
                    with trio.move_on_after(_END_LIMIT, shield=True):
                        await machines.end()
    except KnetError as error:
        failed = BenchError(describe_error(error))
    if failed is not None:
        raise failed


def describe_machine(facts: dict[str, Any]) -> Machine:
    """Return the server's machine.

    Raises:
        BenchError: The facts are not those of a machine.
    """
    try:
        return Machine(**facts)
    except TypeError as error:
        raise BenchError(
            f"the server's facts about its machine are not valid: {error}; install the same"
            " knet_trio on both"
        ) from None
