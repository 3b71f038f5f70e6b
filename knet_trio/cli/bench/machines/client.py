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

# Seconds for the server to be there, and for a link that is slow to come up or to find its MTU.
_REACH_LIMIT: Final = 15.0
_MTU_LIMIT: Final = 3.0
_END_LIMIT: Final = 2.0
_POLL: Final = 0.02
# Round trips by which the difference of the two clocks is found; the quickest tells it best.
_CLOCK_TRIES: Final = 8
# Arguments that are moments of the monotonic clock.
_MOMENTS: Final = ("begin", "end", "stop")


class _Here(BenchPeer):
    """This side."""

    def __init__(self, side: Side) -> None:
        self._side = side

    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Carry a command out."""
        return _check(await self._side.carry_out(command, arguments))


class _There(BenchPeer):
    """The server, as a peer whose clock is ``ahead`` of this one by some seconds."""

    def __init__(self, ask: Callable[..., Awaitable[dict[str, Any]]], ahead: float) -> None:
        self._ask = ask
        self._ahead = ahead

    async def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """Have the server carry a command out."""
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
    """This machine, side 0, and the server's, side 1, with links that are there already."""

    name = "machines"
    least_mtu = 0

    def __init__(self, place: Place, handle: Handle, host: Host, streams: Streams) -> None:
        self._place = place
        self._handle = handle
        self._host = host
        self._streams = streams
        self._session: str | None = None
        self._ahead = 0.0
        # Why nothing can be asked any more.
        self._lost: str | None = None
        self._case: trio.CancelScope | None = None
        self.machine: dict[str, Any] = {}
        self.version: str = ""

    def namespace(self, side: int) -> str | None:
        """None: the machines are as they are."""
        return None

    def address(self, side: int, link: int) -> str:
        """Return the address that a side has on a link; it is known when the link is up."""
        status = self._host.links[link].status
        return (status.dst_ipaddr or "") if side else status.src_ipaddr

    def take_port(self, side: int, link: int) -> int:
        """0: nothing but the links needs one."""
        return 0

    @property
    def links(self) -> list[Link]:
        """The links that are in use."""
        return [link for link in self._host.links.values() if link.enabled]

    @property
    def pong_timeout(self) -> float:
        """The longest of the links, in seconds."""
        return max(link.config.pong_timeout for link in self.links)

    def find_link_in_use(self) -> int:
        """Return the link that messages go over. Raises BenchError if there is none."""
        found = find_link_in_use(self._host)
        if found is None:
            raise BenchError("no link carries messages")
        return found

    async def begin(self) -> None:
        """Wait for the server and begin a session with it.

        Raises:
            BenchError: It is not there, is busy, or speaks another version.
        """
        with trio.move_on_after(_REACH_LIMIT) as scope:
            await self._host.wait_reachable()
        if scope.cancelled_caught:
            hint = "is `knet-trio bench --serve` running there, with the same key?"
            raise BenchError(f"{self._host.explain()}\n{hint}")
        said = await self._ask("hello")
        self._session = str(said["session"])
        self.machine = dict(said["machine"])
        self.version = str(said["knet_trio"])
        # The clocks of two machines have nothing to do with each other.
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
        """Wait until the server ends the session, and give up the case that is open then."""
        # Whatever comes of it is noted.
        with suppress(BenchError):
            await self._ask("watch")
        if self._case is not None:
            self._case.cancel()

    async def end(self) -> None:
        """Tell the server that it was all."""
        if self._session is not None and self._lost is None:
            # If it has gone just now, it need not be told.
            with suppress(BenchError):
                await self._ask("bye")

    async def wait_links(self, count: int = 1) -> list[str]:
        """Wait until all links are up and their path MTUs are known; return what is wrong.

        Raises:
            BenchError: Fewer than ``count`` came up.
        """
        slow = max((2 + link.config.pong_count) * link.config.ping_interval for link in self.links)
        with trio.move_on_after(_MTU_LIMIT + slow):
            for link in self.links:
                await link.wait_connected()
        up = [link for link in self.links if link.status.connected]
        if self._handle.mtu is None:
            with trio.move_on_after(_MTU_LIMIT):
                while not all(link.status.proto_overhead for link in up):  # noqa: ASYNC110  # no event tells of it
                    await trio.sleep(_POLL)
        down = [
            f"link {link.link_id} is down: {link.status.reason}"
            for link in self.links
            if link not in up
        ]
        if len(up) < count:
            raise BenchError(f"it takes {count} links that are up; {'; '.join(down)}")
        return down

    @asynccontextmanager
    async def open_case(
        self, settle_seconds: float = 0.0, *, links: int = 1
    ) -> AsyncGenerator[tuple[BenchPeer, BenchPeer]]:
        """Open this side and the server's for a case; ``links`` have to be up, for so long."""
        # Else links that went down with the server would be said to be the reason.
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
            # Not to leave its links disabled; it is bounded by the patience with the server.
            with trio.CancelScope(shield=True):
                if self._lost is None:
                    await self._ask("close")

    async def _check_server(self) -> None:
        """Raise BenchError if the session is over."""
        await trio.lowlevel.checkpoint()
        if self._lost is not None:
            raise BenchError(self._lost)

    async def _ask(self, do: str, **more: object) -> dict[str, Any]:
        """Ask the server. Raises BenchError if it cannot or does not want to."""
        if self._lost is not None:
            raise BenchError(self._lost)
        message = {"do": do, "session": self._session, **more}
        try:
            answer = decode(await self._streams.request(self._host, encode(message)))
        except RefusedError as error:
            raise self._lose(f"{error}: it runs, but serves no bench") from None
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
    """Return the network of cases between machines. Raises BenchError for another one."""
    if not isinstance(network, Machines):
        raise BenchError(f"{network.name} is no other machine")
    return network


@attrs.frozen
class MachineBed(Bed):
    """How to measure between two machines."""

    machines: Machines | None = None

    def open_network(self, case: Case) -> AbstractAsyncContextManager[Network]:
        """Return the machines as they are."""
        assert self.machines is not None
        return nullcontext(self.machines)


def make_bed(machines: Machines, seconds: float, settle_seconds: float) -> MachineBed:
    """Return the bed whose only contender is knet_trio."""
    return MachineBed(
        {OURS: ()}, seconds, load_seconds=0.0, settle_seconds=settle_seconds, machines=machines
    )


@asynccontextmanager
async def open_machines(place: Place, server: ClusterHost) -> AsyncGenerator[Machines]:
    """Open this host, and a session with the server.

    Raises:
        BenchError: That cannot be.
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
                    # The server is free for others at once, also after Ctrl-C.
                    with trio.move_on_after(_END_LIMIT, shield=True):
                        await machines.end()
    except KnetError as error:
        failed = BenchError(describe_error(error))
    if failed is not None:
        raise failed


def describe_machine(facts: dict[str, Any]) -> Machine:
    """Return the server's machine. Raises BenchError for what is none."""
    try:
        return Machine(**facts)
    except TypeError as error:
        raise BenchError(
            f"what the server says of its machine is not understood: {error}"
        ) from None
