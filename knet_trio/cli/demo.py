"""The demo: nodes stream messages to each other while their links are cut and mended.

::

    settle -> stream -> cut link 0 -> mend it -> cut link 1 -> mend it -> drain -> account

The nodes are real handles with real sockets, in one process. Between them is a relay for each link.
Only the relay knows of a cut: the nodes have to find out.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import combinations
from typing import Final

import attrs
import trio

import knet_trio
from knet_trio import Channel, CryptoConfig, Handle, Link
from knet_trio.cli.account import account
from knet_trio.cli.ledger import Cut, Ledger
from knet_trio.cli.relay import LOOPBACK, Relay, open_relay
from knet_trio.cli.report import Kind, Report
from knet_trio.cli.result import (
    CIPHER,
    HASH,
    LINKS,
    LinkCell,
    NodeRow,
    Result,
    Settings,
    View,
)

# How the streaming time is divided.
_STEADY: Final = 0.15
_FIRST_CUT: Final = 0.35
_BETWEEN: Final = 0.15
_SECOND_CUT: Final = 0.25

_PONG_COUNT: Final = 2
_SETTLE: Final = 30.0
_EXPLAINED: Final = 3
# In pong timeouts: a link is down after ten of them at the latest, and up after a few pongs.
_PATIENCE: Final = 12
_DRAIN: Final = 2.0
_KEY_SIZE: Final = 256


class DemoError(Exception):
    """The demo could not begin. The message says why."""


@attrs.define
class _DemoNode:
    handle: Handle
    channel: Channel
    packets: list[int] = attrs.field(factory=lambda: [0] * LINKS)

    @property
    def node(self) -> int:
        """The host id of the node."""
        return self.handle.host_id

    def links(self, link_id: int) -> list[Link]:
        """Return the links of this id, one to each other node."""
        return [host.links[link_id] for host in self.handle.hosts.values()]


async def run_demo(settings: Settings, report: Report) -> Result:
    """Run the demo, for a little more than ``settings.seconds``.

    Args:
        settings: The settings of the demo.
        report: Shows the progress.

    Returns:
        The result.

    Raises:
        DemoError: The links did not come up.
        OSError: The system refuses a socket.
        KnetError: A handle or a link cannot be opened.
    """
    async with AsyncExitStack() as stack:
        pairs = list(combinations(range(1, settings.nodes + 1), 2))
        relays = [await stack.enter_async_context(open_relay(len(pairs))) for _ in range(LINKS)]
        crypto = CryptoConfig(os.urandom(_KEY_SIZE), cipher=CIPHER, hash=HASH)
        nodes: dict[int, _DemoNode] = {}
        for node in range(1, settings.nodes + 1):
            handle = await stack.enter_async_context(
                knet_trio.open_handle(node, crypto=crypto, hedge=settings.hedge)
            )
            nodes[node] = _DemoNode(handle, handle.open_channel(0))
        demo = _Demo(settings, report, relays, nodes)
        async with trio.open_nursery() as nursery:
            for watched in nodes.values():
                await nursery.start(demo.watch, watched)
            await demo.connect(pairs)
            nursery.start_soon(demo.show)
            await demo.settle()
            for receiver in nodes.values():
                nursery.start_soon(demo.receive, receiver)
            await demo.run()
            nursery.cancel_scope.cancel()
        return demo.result()


class _Demo:
    def __init__(
        self,
        settings: Settings,
        report: Report,
        relays: list[Relay],
        nodes: dict[int, _DemoNode],
    ) -> None:
        self._settings = settings
        self._report = report
        self._relays = relays
        self._nodes = nodes
        self._ledger = Ledger(list(nodes), 1 / settings.rate)
        self._began = trio.current_time()
        self._streaming_since = math.inf
        self._streaming = False
        self._phase = "waiting for the links to come up"
        self._unreachable: list[str] = []
        self._late = 0.0
        self._shown_at = self._began
        self._mtu = self._overhead = 0
        # Set and replaced by a new event whenever the state changes.
        self._changed = trio.Event()

    # Setting up.

    async def connect(self, pairs: list[tuple[int, int]]) -> None:
        """Add links between every two nodes. A node has one port for each link id, as usual."""
        settings = self._settings
        for node in self._nodes.values():
            for other in self._nodes:
                if other != node.node:
                    node.handle.add_host(other, policy=settings.policy)
        for link_id, relay in enumerate(self._relays):
            ports = dict.fromkeys(self._nodes, 0)
            for pair, wire in zip(pairs, relay.wires, strict=True):
                for (here, there), end in zip((pair, pair[::-1]), wire, strict=True):
                    host = self._nodes[here].handle.hosts[there]
                    link = await host.add_link(
                        link_id,
                        (LOOPBACK, ports[here]),
                        end.address,
                        ping_interval=settings.ping_interval,
                        pong_timeout=settings.pong_timeout,
                        pong_count=_PONG_COUNT,
                    )
                    ports[here] = link.config.src.port
                    end.plug((LOOPBACK, ports[here]))

    async def settle(self) -> None:
        """Wait until every link is up and its path MTU is known.

        Raises:
            DemoError: Some links were not ready in time.
        """
        links = [link for link_id in range(LINKS) for link in self._links(link_id)]
        with trio.move_on_after(_SETTLE) as scope:
            for link in links:
                await link.wait_connected()
            self._phase = "searching for the path MTU"
            # The overhead is 0 until PMTUd has ended. A node's last search changes its data MTU,
            # which is an event.
            await self._until(lambda: all(link.status.proto_overhead for link in links))
        if scope.cancelled_caught:
            waiting = [link for link in links if not link.status.proto_overhead]
            reasons = "\n".join(link.explain() for link in waiting[:_EXPLAINED])
            raise DemoError(
                f"{len(waiting)} of {len(links)} link ends were not ready after {_SETTLE:g} s;"
                f" is this machine very busy? The first of them:\n{reasons}"
            )
        self._mtu = min(node.handle.data_mtu for node in self._nodes.values())
        self._overhead = max(link.status.proto_overhead for link in links)
        self._say(f"all links are up, path MTU found: {self._mtu} bytes of a message a packet")

    # Streaming and cuts.

    async def run(self) -> None:
        """Stream messages, cut and mend both links, and wait for the last messages to arrive."""
        settings = self._settings
        self._streaming = True
        self._streaming_since = began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number, node in enumerate(self._nodes.values()):
                nursery.start_soon(self._send, node, number / len(self._nodes))
            self._enter("streaming", "every host begins to send")
            await trio.sleep_until(began + _STEADY * settings.seconds)
            await self._cut(0, _FIRST_CUT * settings.seconds)
            await trio.sleep(_BETWEEN * settings.seconds)
            await self._cut(1, _SECOND_CUT * settings.seconds)
            await trio.sleep_until(began + settings.seconds)
            self._streaming = False
        self._enter("waiting for the last messages", "the streaming has ended")
        with trio.move_on_after(_DRAIN):
            await self._until(lambda: self._ledger.delivered >= self._ledger.sent)

    async def _cut(self, link_id: int, seconds: float) -> None:
        settings, relay = self._settings, self._relays[link_id]
        patience = _PATIENCE * settings.pong_timeout
        ways = len(self._ledger.flows)
        cut = Cut(link_id, trio.current_time())
        self._ledger.cuts.append(cut)
        # A link that is already down sends no event.
        for node in self._nodes.values():
            for link in node.links(link_id):
                if not link.status.connected:
                    cut.dead_at[node.node, link.host.host_id] = cut.at
        relay.cut()
        self._enter(f"link {link_id} is cut", f"link {link_id} is cut: its packets vanish", "bad")
        with trio.move_on_after(patience) as scope:
            for link in self._links(link_id):
                await link.wait_disconnected()
            await self._until(lambda: len(cut.dead_at) == ways)
        if scope.cancelled_caught:
            self._say(f"not every host has noticed after {patience:.1f} s", "bad")
        else:
            took = max(cut.dead_at.values()) - cut.at
            self._phase = f"link {link_id} is cut, and every host knows"
            self._say(f"link {link_id} is down everywhere, {took:.2f} s after the cut", "bad")
        await trio.sleep_until(cut.at + seconds)
        relay.mend()
        cut.mended_at = trio.current_time()
        self._enter(f"link {link_id} is mended", f"link {link_id} is mended", "good")
        with trio.move_on_after(patience) as scope:
            for link in self._links(link_id):
                await link.wait_connected()
            await self._until(lambda: len(cut.back_at) == ways)
        if scope.cancelled_caught:
            self._say(f"not every end of the link is up after {patience:.1f} s", "bad")
        else:
            took = max(cut.back_at.values()) - cut.mended_at
            self._phase = "streaming"
            self._say(f"link {link_id} is up everywhere, {took:.2f} s after the mending", "good")

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _send(self, node: _DemoNode, offset: float) -> None:
        interval = self._ledger.interval
        # The nodes send at different moments.
        next_at = trio.current_time() + offset * interval
        while True:
            await trio.sleep_until(next_at)
            if not self._streaming:
                return
            now = trio.current_time()
            self._late = max(self._late, now - next_at)
            # Missed messages are not sent later: a burst would distort the latencies.
            next_at = max(next_at + interval, now)
            await node.channel.send(self._ledger.send(node.node, now))

    async def receive(self, node: _DemoNode) -> None:
        """Enter all messages that arrive at ``node`` in the ledger, until cancelled."""
        while True:
            for message in await node.channel.receive_many():
                self._ledger.receive(node.node, message, trio.current_time())
            self._notify()

    async def watch(
        self, node: _DemoNode, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Follow the events of ``node`` about its links and hosts, until cancelled."""
        async with node.handle.events() as events:
            task_status.started()
            async for event in events:
                now = trio.current_time()
                if isinstance(event, knet_trio.LinkStatusChanged):
                    self._link_changed(node.node, event, now)
                elif isinstance(event, knet_trio.HostStatusChanged) and self._streaming:
                    state = "reachable" if event.reachable else "unreachable"
                    what = f"host {node.node}: host {event.host_id} is {state}"
                    self._say(what, "good" if event.reachable else "bad")
                    if not event.reachable:
                        self._unreachable.append(what)
                self._notify()

    def _link_changed(self, node: int, event: knet_trio.LinkStatusChanged, now: float) -> None:
        if not self._streaming:
            return
        where = (node, event.host_id)
        kind: Kind = "good" if event.connected else "bad"
        state = "up" if event.connected else "down"
        what = (
            f"host {node}: link {event.link_id} to host {event.host_id} is {state}: {event.reason}"
        )
        expected = self._expected(event, now)
        if expected is None or where in expected:
            self._say(what, "odd")
            return
        if not expected:
            # The first change is reported with its reason; one line sums up the others.
            self._say(what, kind)
        expected[where] = now

    def _expected(
        self, event: knet_trio.LinkStatusChanged, now: float
    ) -> dict[tuple[int, int], float] | None:
        """Return where to enter a change caused by the last cut, None for any other change."""
        if not self._ledger.cuts:
            return None
        cut = self._ledger.cuts[-1]
        if cut.link_id != event.link_id or event.connected != (now >= cut.mended_at):
            return None
        return cut.back_at if event.connected else cut.dead_at

    # Reporting.

    async def show(self) -> None:
        """Show the current state at regular intervals, until cancelled."""
        while True:
            self._report.show(self._view())
            await trio.sleep(self._report.period)

    def _enter(self, phase: str, what: str, kind: Kind = "plain") -> None:
        self._phase = phase
        self._say(what, kind)

    def _say(self, what: str, kind: Kind = "plain") -> None:
        self._report.say(trio.current_time() - self._began, what, kind)

    def _links(self, link_id: int) -> list[Link]:
        return [link for node in self._nodes.values() for link in node.links(link_id)]

    def _view(self) -> View:
        now = trio.current_time()
        since = max(now - self._shown_at, self._report.period)
        self._shown_at = now
        rows = tuple(self._row(node, now, since) for node in self._nodes.values())
        done = (now - self._streaming_since) / self._settings.seconds
        return View(
            elapsed=now - self._began,
            phase=self._phase,
            done=min(max(done, 0.0), 1.0),
            cut=frozenset(i for i, relay in enumerate(self._relays) if relay.is_cut),
            rows=rows,
        )

    def _row(self, node: _DemoNode, now: float, since: float) -> NodeRow:
        cells: list[LinkCell] = []
        for link_id in range(LINKS):
            states = [link.status for link in node.links(link_id)]
            packets = sum(state.stats.tx_data_packets for state in states)
            up = sum(state.connected for state in states)
            rate = (packets - node.packets[link_id]) / since
            cells.append(LinkCell(up, len(states), rate))
            node.packets[link_id] = packets
        incoming = [flow for flow in self._ledger.flows.values() if flow.receiver == node.node]
        for flow in incoming:
            flow.look(now)
        latencies = [flow.last_latency for flow in incoming if not math.isnan(flow.last_latency)]
        return NodeRow(
            node=node.node,
            links=tuple(cells),
            sent=self._ledger.sent_by(node.node),
            delivered=sum(flow.delivered for flow in incoming),
            lost=sum(flow.overdue for flow in incoming),
            latency=sum(latencies) / len(latencies) if latencies else math.nan,
            mtu=node.handle.data_mtu,
        )

    def result(self) -> Result:
        """Return the result of the demo."""
        drops: Counter[str] = Counter()
        for node in self._nodes.values():
            for cause, times in node.handle.statistics().drops.items():
                if times:
                    drops[cause.value] += times
        return account(
            self._settings,
            self._ledger,
            mtu=self._mtu,
            overhead=self._overhead,
            drops=dict(drops),
            late=self._late,
            unreachable=self._unreachable,
        )
