"""knet_trio's peer: handles, hosts and links."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from knet_trio import LinkPolicy
from knet_trio.cli.bench.peer.commands import Answer, Arguments, Command, CommandError, usage
from knet_trio.cli.bench.peer.handles import OpenHandles, read_crypto
from knet_trio.cli.bench.peer.nobody import nobody
from knet_trio.cli.bench.peer.traffic import Traffic
from knet_trio.cli.bench.peer.turns import Watching

# Seconds between two checks of a condition without an event.
_POLL: Final = 0.02
# Seconds after which adding or removing hosts is given up.
_LONGEST: Final = 6.0
# The commands of `KnetStreams`.
_STREAMING: Final = ("drain", "drained", "feed", "answer", "ask", "hear", "tell")


@asynccontextmanager
async def open_knet_peer() -> AsyncGenerator[dict[str, Command]]:
    """Open a peer with handles of knet_trio, and yield its commands."""
    async with trio.open_nursery() as nursery:
        handles = OpenHandles(nursery)
        yield {
            "usage": usage,
            "handle": handles.open,
            **Setup(handles).commands,
            **Traffic(handles, nursery).commands,
            **Watching(nursery).commands,
            **_streaming(handles, nursery),
            "calls": _calls,
        }
        nursery.cancel_scope.cancel()


class Setup:
    """Commands for hosts, links and settings."""

    def __init__(self, handles: OpenHandles) -> None:
        self._handles = handles
        self.commands: Final[dict[str, Command]] = {
            "host": self.add_host,
            "link": self.add_link,
            "enable": self.enable,
            "up": self.wait_up,
            "status": self.status,
            "crowd": self.add_crowd,
            "disperse": self.remove_crowd,
            "tune": self.tune,
            "rekey": self.rekey,
            "use": self.use,
            "renew": self.renew,
        }

    async def add_host(self, arguments: Arguments) -> Answer:
        """Carry out ``host``: add a host."""
        policy = LinkPolicy(arguments.text("policy", "passive"))
        self._handles.find(arguments).handle.add_host(arguments.integer("id", 2), policy=policy)
        return {"ok": True}

    async def add_link(self, arguments: Arguments) -> Answer:
        """Carry out ``link``: add a link to a host."""
        opened = self._handles.find(arguments)
        enabled = arguments.text("enabled", "1") == "1"
        link = await opened.handle.get_host(arguments.integer("host", 2)).add_link(
            arguments.integer("id", 0),
            arguments.address("src"),
            arguments.address("dst"),
            priority=arguments.integer("priority"),
            ping_interval=arguments.number("ping", 1.0),
            pong_timeout=arguments.number("timeout", 2.0),
            pong_count=arguments.integer("pongs", 2),
            enabled=enabled,
        )
        opened.links.append(link)
        if enabled:
            opened.enabled_at = time.monotonic()
        return {"ok": True}

    async def enable(self, arguments: Arguments) -> Answer:
        """Carry out ``enable``: enable a link."""
        opened = self._handles.find(arguments)
        host = opened.handle.get_host(arguments.integer("host", 2))
        opened.enabled_at = time.monotonic()
        host.links[arguments.integer("id", 0)].enabled = True
        return {"ok": True}

    async def wait_up(self, arguments: Arguments) -> Answer:
        """Carry out ``up``: wait until the links are up and the data MTU is ``mtu`` or more."""
        opened = self._handles.find(arguments)
        for link in opened.links:
            await link.wait_connected()
        seconds = time.monotonic() - opened.enabled_at
        while opened.handle.data_mtu < arguments.integer("mtu"):  # noqa: ASYNC110  # asked once
            await trio.sleep(_POLL)
        return {"seconds": seconds, "mtu": opened.handle.data_mtu}

    async def status(self, arguments: Arguments) -> Answer:
        """Carry out ``status``: return the state of the links and the counters."""
        opened = self._handles.find(arguments)
        states = [link.status for link in opened.links]
        drops = opened.handle.statistics().drops
        return {
            "links": len(states),
            "connected": sum(state.connected for state in states),
            "downs": sum(state.stats.down_count for state in states),
            "pings": sum(state.stats.tx_ping_packets for state in states),
            "received_pings": sum(state.stats.rx_ping_packets for state in states),
            "mtu": opened.handle.data_mtu,
            "drops": {str(cause): times for cause, times in drops.items() if times},
        }

    async def add_crowd(self, arguments: Arguments) -> Answer:
        """Carry out ``crowd``: add ``hosts`` hosts from id ``first`` on, with dead links."""
        handle = self._handles.find(arguments).handle
        first, src = arguments.integer("first", 100), arguments.address("src")
        began = time.monotonic()
        with trio.move_on_after(_LONGEST) as scope:
            for number in range(arguments.integer("hosts")):
                host = handle.add_host(first + number)
                await host.add_link(0, src, nobody(number))
        return _took(began, scope)

    async def remove_crowd(self, arguments: Arguments) -> Answer:
        """Carry out ``disperse``: remove the hosts from id ``first`` on."""
        handle = self._handles.find(arguments).handle
        first = arguments.integer("first", 100)
        began = time.monotonic()
        with trio.move_on_after(_LONGEST) as scope:
            for host in [host for id, host in handle.hosts.items() if id >= first]:
                await host.remove()
        return _took(began, scope)

    async def tune(self, arguments: Arguments) -> Answer:
        """Carry out ``tune``: set ``mtu``, or ``pmtud``, the interval of PMTUd in seconds."""
        handle = self._handles.find(arguments).handle
        if mtu := arguments.integer("mtu"):
            handle.mtu = mtu
        if interval := arguments.number("pmtud"):
            handle.pmtud_interval = interval
        return {"ok": True}

    async def rekey(self, arguments: Arguments) -> Answer:
        """Carry out ``rekey``: put a configuration into slot ``slot``."""
        config = read_crypto(arguments)
        self._handles.find(arguments).handle.set_crypto(config, arguments.integer("slot", 2))
        return {"ok": True}

    async def renew(self, arguments: Arguments) -> Answer:
        """Carry out ``renew``: begin another life of model ``aead``."""
        self._handles.find(arguments).handle.renew()
        return {"ok": True}

    async def use(self, arguments: Arguments) -> Answer:
        """Carry out ``use``: send with slot ``slot``."""
        self._handles.find(arguments).handle.use_crypto(arguments.integer("slot", 2))
        return {"ok": True}


def _took(began: float, scope: trio.CancelScope) -> Answer:
    if scope.cancelled_caught:
        raise CommandError(f"not done after {_LONGEST:g} s")
    return {"seconds": time.monotonic() - began}


def _streaming(handles: OpenHandles, nursery: trio.Nursery) -> dict[str, Command]:
    made: dict[str, Command] = {}

    async def run(name: str, arguments: Arguments) -> Answer:
        if not made:
            # Imported only when it is needed, since memory is measured.
            from knet_trio.cli.bench.peer.knet_streams import KnetStreams

            made.update(KnetStreams(handles, nursery).commands)
        return await made[name](arguments)

    return {name: partial(run, name) for name in _STREAMING}


async def _calls(arguments: Arguments) -> Answer:
    # Imported only when it is needed, since memory is measured.
    from knet_trio.cli.bench.peer.calls import count_ours

    return await count_ours(arguments)
