"""A host, in a process and a network namespace of its own: ``python -m tests.soak.node {...}``.

Its argument is a ``Settings`` in JSON. On stdin it gets a command on each line, on stdout it says
``{"done": …}`` with what came of it; between these are lists of the messages it was given. The
end of input ends it.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tracemalloc
from typing import Any, Final

import attrs
import trio

from knet_trio import Channel, CryptoConfig, Handle, LinkPolicy, open_handle
from knet_trio._state.counters import Kind
from tests.drops import counted
from tests.soak.messages import Name, check_message, choose_size, make_message
from tests.soak.wires import HOSTS, NETWORKS, PORT, address

# To the next host with one policy, to the one after it with the other, and to both.
POLICIES: Final = {1: LinkPolicy.ACTIVE, 2: LinkPolicy.PASSIVE}
CHANNELS: Final = (0, 1, 2)
EVERYBODY: Final = 2
_RECEIVE_BUFFER: Final = 100_000


@attrs.frozen(kw_only=True)
class Settings:
    """Which host it is; messages a second; seconds between pings; the first key; the seed."""

    host: int
    rate: float
    ping_interval: float
    key: str
    seed: int


def others(host: int) -> dict[int, LinkPolicy]:
    """The policy for each other host."""
    ring = {after: HOSTS[(HOSTS.index(host) + after) % len(HOSTS)] for after in POLICIES}
    return {ring[after]: policy for after, policy in POLICIES.items()}


class Node:
    """The handle, and a method for each command."""

    def __init__(self, settings: Settings, handle: Handle) -> None:
        self._settings = settings
        self._handle = handle
        self._rng = random.Random(settings.seed * 10 + settings.host)
        self._channels = {
            number: handle.open_channel(number, receive_buffer=_RECEIVE_BUFFER)
            for number in CHANNELS
        }
        self._sending = trio.CancelScope()
        self._sent = 0
        self._bad = 0
        self._got: list[Name] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Take part until cancelled."""
        me = self._settings.host
        for other, policy in others(me).items():
            host = self._handle.add_host(other, policy=policy)
            for network in NETWORKS:
                await host.add_link(
                    network,
                    (address(me, network), PORT),
                    (address(other, network), PORT),
                    ping_interval=self._settings.ping_interval,
                    pong_timeout=self._settings.ping_interval * 4,
                    pong_count=2,
                    enabled=False,
                )
        async with trio.open_nursery() as nursery:
            for channel in self._channels.values():
                nursery.start_soon(self._receive, channel)
            task_status.started()

    async def _receive(self, channel: Channel) -> None:
        async for message in channel:
            name = check_message(message.data)
            if name is None or name.sender != message.source:
                self._bad += 1
            else:
                self._got.append(name)

    def take_got(self) -> list[Name]:
        """What was received since the last time."""
        got, self._got = self._got, []
        return got

    # Commands.

    async def do_connect(self) -> None:
        """Use all links, and wait until they are up."""
        for host in self._handle.hosts.values():
            for link in host.links.values():
                link.enabled = True
        for host in self._handle.hosts.values():
            await host.wait_reachable()
            for link in host.links.values():
                await link.wait_connected()

    async def do_send(self) -> int:
        """Send messages until ``do_stop``; how many it were."""
        me, rng = self._settings.host, self._rng
        to = list(others(me))
        with self._sending:
            while True:
                await trio.sleep(rng.expovariate(self._settings.rate))
                number = rng.choice(CHANNELS)
                data = make_message(Name(me, self._sent), choose_size(rng))
                # Not cancelled in between, so that the count is right.
                with trio.CancelScope(shield=True):
                    channel = self._channels[number]
                    await channel.send(data, to=None if number == EVERYBODY else [to[number]])
                self._sent += 1
        return self._sent

    def do_stop(self) -> None:
        self._sending.cancel()

    def do_set_key(self, key: str | None, slot: int) -> None:
        config = None if key is None else CryptoConfig(key=bytes.fromhex(key))
        self._handle.set_crypto(config, slot)

    def do_use_key(self, slot: int) -> None:
        self._handle.use_crypto(slot)

    def do_be_silent(self) -> None:
        """Take all links out of use, so that counters stand still."""
        for host in self._handle.hosts.values():
            for link in host.links.values():
                link.enabled = False

    def do_report(self) -> dict[str, Any]:
        """What it has counted, and what memory it has."""
        links: dict[str, dict[str, Any]] = {}
        for host in self._handle.hosts.values():
            for link_id, link in host.links.items():
                counters = host.state.links[link_id].counters
                answers = counters.tallies[Kind.PMTU_ANSWER].tx_packets
                stats = link.status.stats
                report = attrs.asdict(stats) | {
                    "answers": answers,
                    "transitions": dict(stats.transitions),
                }
                links[f"{host.host_id}.{link_id}"] = report
        drops = self._handle.statistics().drops
        return {
            "links": links,
            "drops": {str(cause): count for cause, count in counted(drops).items()},
            "sent": self._sent,
            "bad": self._bad,
            "resident": _resident(),
            "traced": tracemalloc.get_traced_memory()[0],
            "tasks": trio.lowlevel.current_statistics().tasks_living,
        }


def _resident() -> int:
    """The bytes of memory that the process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Pipes:
    """Commands in, answers and messages out."""

    def __init__(self, node: Node, nursery: trio.Nursery) -> None:
        self._node = node
        self._nursery = nursery
        self._out = trio.lowlevel.FdStream(sys.stdout.fileno())
        self._turn = trio.Lock()

    async def serve(self) -> None:
        """Carry out commands to the end of the input."""
        rest = b""
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    # Beside each other: to send lasts until another one ends it.
                    self._nursery.start_soon(self._carry_out, json.loads(line))

    async def report_got(self) -> None:
        """Tell what was received, ten times a second, until cancelled."""
        while True:
            await trio.sleep(0.1)
            await self._put({"got": self._node.take_got()})

    async def _carry_out(self, command: dict[str, Any]) -> None:
        number = command.pop("id")
        result = getattr(self._node, f"do_{command.pop('do')}")(**command)
        if hasattr(result, "__await__"):
            result = await result
        await self._put({"done": number, "result": result})

    async def _put(self, line: dict[str, Any]) -> None:
        async with self._turn:
            await self._out.send_all(json.dumps(line).encode() + b"\n")


async def main(settings: Settings) -> None:
    """Be that host until the end of the input."""
    tracemalloc.start()
    crypto = CryptoConfig(key=bytes.fromhex(settings.key))
    async with (
        # What is lost and cut is no news.
        open_handle(settings.host, crypto=crypto, log_level="error") as handle,
        trio.open_nursery() as nursery,
    ):
        node = Node(settings, handle)
        await nursery.start(node.run)
        pipes = Pipes(node, nursery)
        nursery.start_soon(pipes.report_got)
        await pipes.serve()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Settings(**json.loads(sys.argv[1])))
