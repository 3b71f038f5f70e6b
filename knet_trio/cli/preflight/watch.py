"""The measurements of one host on its links: whether they work, and if not, why."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

import attrs
import trio

from knet_trio import (
    CryptoFault,
    DropCause,
    Handle,
    Link,
    LinkDiagnosis,
    LinkStatus,
    format_address,
    parse_address,
)
from knet_trio._core.percentile import percentile
from knet_trio.address import Address
from knet_trio.cli.doctor.mismatches import CRYPTO_CAUSES
from knet_trio.cli.preflight.ears import Astray, Ears, Word, read_word
from knet_trio.cli.preflight.machine import find_mtu
from knet_trio.cli.preflight.preparing import RECONNECT_INTERVAL
from knet_trio.cli.preflight.records import WayReport
from knet_trio.cluster import Cluster
from knet_trio.cluster._own_host import has_address

RECENT: Final = 1.5
"""Seconds for which a network error of a link is of interest."""
LOOK_EVERY: Final = 0.1
"""Seconds between two checks of a state without an event."""

# The causes for which packets of a host from another address are dropped.
_FROM_ELSEWHERE: Final = (DropCause.ACCESS_LIST, DropCause.UNKNOWN_ADDRESS)
# Links to check before other tasks run.
_IN_ONE_TURN: Final = 20
_BLOCK: Final = 16
_SLOT: Final = 1
_STREAM_SLOT: Final = 2
_NO_BLOCKS: Final = ("-ctr", "none")


@attrs.define(eq=False)
class WatchedLink:
    """A link and its measurements.

    Attributes:
        link: The link.
        timeout: The pong timeout of the file, in seconds.
        own_mtu: The largest IP packet that this machine sends to its address, in bytes, 0 if
            unknown.
        step: The step from one size of our packets to the next, in bytes.
        path_mtu: The largest of our packets that has passed, in bytes, 0 if unknown.
        sent: The number of pings that measured the link.
        trips: The round trips of the answered pings, in seconds.
        was_up: True if the link was up when the measurement began.
    """

    link: Link
    timeout: float
    own_mtu: int
    step: int
    path_mtu: int = 0
    sent: int = 0
    trips: list[float] = attrs.field(factory=list[float])
    was_up: bool = False

    @property
    def is_narrow(self) -> bool:
        """True if the path takes smaller packets than this machine sends."""
        return 0 < self.path_mtu <= self.own_mtu - self.step

    @property
    def host_id(self) -> int:
        """The id of the host at the other end."""
        return self.link.host.host_id


class Watch:
    """The measurements of a host.

    Args:
        handle: The handle, opened with the file that ``prepare`` returned.
        cluster: The cluster file as it is.
        ears: The sockets beside the links.

    Attributes:
        links: All links.
    """

    def __init__(self, handle: Handle, cluster: Cluster, ears: Ears) -> None:
        self._handle = handle
        self._began = trio.current_time()
        self._cluster = cluster
        self._ears = ears
        # When a host that cannot be understood was first heard, by host ids.
        self._heard_since: dict[int, float] = {}
        timeouts = {link.link_id: link.pong_timeout for link in cluster.links}
        step = _find_step(cluster)
        self.links: tuple[WatchedLink, ...] = tuple(
            WatchedLink(link, timeouts[link_id], _find_own_mtu(link), step)
            for host in handle.hosts.values()
            for link_id, link in sorted(host.links.items())
        )
        self._by_host: dict[int, list[WatchedLink]] = {}
        for watched in self.links:
            self._by_host.setdefault(watched.host_id, []).append(watched)

    def shows_life(self, host_id: int) -> bool:
        """Return whether a host is heard for longer than a link takes to come up.

        It has another key, or its links lead to wrong addresses, or packets to it are lost. If a
        link to it is up, the result is False, to wait for it: corosync may still run there.
        """
        links = self._by_host.get(host_id, [])
        if not any(map(self._is_heard, links)) or any(w.link.status.connected for w in links):
            self._heard_since.pop(host_id, None)
            return False
        now = trio.current_time()
        since = self._heard_since.setdefault(host_id, now)
        return now - since > max(_usual_patience(watched.link) for watched in links)

    def _is_heard(self, watched: WatchedLink) -> bool:
        link = watched.link
        found, heard = link.diagnose(), self._ears.get(watched.host_id, link.link_id)
        signs = found.crypto_fault, _find_elsewhere(found), link.status.stats.rx_total_packets
        with_wrong_ids = _count(found, DropCause.UNKNOWN_HOST, DropCause.UNKNOWN_LINK)
        return any(signs) or heard.astray >= 0 or with_wrong_ids > 0

    async def settle(self, come: Callable[[], AbstractSet[int]]) -> None:
        """Wait until each link is up, or has had the time that it may take.

        Args:
            come: Returns the ids of the hosts that have come and not left again.
        """
        began = trio.current_time()
        here: AbstractSet[int] = frozenset()

        def is_settled(watched: WatchedLink) -> bool:
            link = watched.link
            if not link.enabled or link.status.connected:
                return True
            since = began if watched.host_id in here else self._began
            return trio.current_time() - since > _patience(link)

        while True:
            here = come()
            if await self._is_so_for_all(is_settled):
                return
            await trio.sleep(LOOK_EVERY)

    async def _is_so_for_all(self, condition: Callable[[WatchedLink], bool]) -> bool:
        """Return whether ``condition`` holds for all links; there may be thousands."""
        for number, watched in enumerate(self.links):
            if number % _IN_ONE_TURN == 0:
                await trio.lowlevel.checkpoint()
            if not condition(watched):
                return False
        return True

    async def measure(self, count: int, interval: float) -> None:
        """Ping over every link that is up, and read the path MTUs.

        Takes as long if no link is up: the other hosts need time to hear this host.

        Args:
            count: The number of pings over each link.
            interval: The seconds from one ping to the next.
        """
        async with trio.open_nursery() as looking:
            looking.start_soon(self._look_at_mtus)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, count * interval)
                for number, watched in enumerate(self.links):
                    if number % _IN_ONE_TURN == 0:
                        await trio.lowlevel.checkpoint()
                    watched.was_up = watched.link.status.connected
                    # The links are pinged at different moments.
                    offset = interval * number / len(self.links)
                    if watched.was_up:
                        nursery.start_soon(_ping, watched, count, interval, offset)
            await self._wait_mtus()
            looking.cancel_scope.cancel()
        await self._take_mtus()

    def open_stream_cipher(self) -> None:
        """Set the stream cipher, so that this host opens the packets of others in ``refine``."""
        crypto = self._cluster.crypto
        if crypto is not None and self._can_refine:
            stream = attrs.evolve(crypto, cipher=f"{crypto.cipher.removesuffix('-cbc')}-ctr")
            self._handle.set_crypto(stream, _STREAM_SLOT)

    async def refine(self) -> None:
        """Find the path MTUs to the byte, where a path takes less than this machine sends.

        A block cipher pads packets to whole blocks. A stream cipher with the same key does not, and
        all hosts open its packets after ``open_stream_cipher``.
        """
        narrow = [w for w in self.links if w.is_narrow and w.link.status.connected]
        if not narrow or not self._can_refine:
            return
        patience = 3 + 100 * max(watched.link.status.latency for watched in narrow)
        self._handle.use_crypto(_STREAM_SLOT)
        ends = trio.current_time() + patience
        while trio.current_time() < ends:
            await trio.sleep(LOOK_EVERY)
            if all(watched.link.diagnose().path_mtu for watched in narrow):
                break
        for watched in narrow:
            found = watched.link.diagnose().path_mtu or 0
            # Less: the other host did not open the probe, or it was lost by chance.
            if found >= watched.path_mtu:
                watched.path_mtu, watched.step = found, 1
        self._handle.use_crypto(_SLOT)

    @property
    def _can_refine(self) -> bool:
        is_free = self._cluster.accept_crypto is None
        return is_free and _find_step(self._cluster) > 1

    async def _look_at_mtus(self) -> None:
        while True:
            await self._take_mtus()
            await trio.sleep(LOOK_EVERY)

    async def _take_mtus(self) -> None:
        """Keep the largest path MTUs, since a search may lose a probe by chance."""
        for watched in self.links:
            watched.path_mtu = max(watched.path_mtu, watched.link.diagnose().path_mtu or 0)
            await trio.lowlevel.checkpoint()

    async def _wait_mtus(self) -> None:
        """Wait until every path MTU is known, for as long as a search may take."""
        began = trio.current_time()

        def is_known(watched: WatchedLink) -> bool:
            status = watched.link.status
            waited = trio.current_time() - began
            return bool(
                watched.path_mtu or not status.connected or waited > 5 + 200 * status.latency
            )

        while True:
            if await self._is_so_for_all(is_known):
                return
            await trio.sleep(LOOK_EVERY)

    async def report(self) -> tuple[WayReport, ...]:
        """Return the report on each link."""
        ways: list[WayReport] = []
        for watched in self.links:
            ways.append(self._report_link(watched))
            await trio.lowlevel.checkpoint()
        return tuple(ways)

    def _report_link(self, watched: WatchedLink) -> WayReport:
        link, host_id = watched.link, watched.host_id
        status, found = link.status, link.diagnose()
        stats, heard = status.stats, self._ears.get(host_id, link.link_id)
        opened, fault, trouble = stats.rx_total_packets, found.crypto_fault, found.trouble
        ranked = sorted(watched.trips)
        if trouble is not None and found.at - trouble.at >= RECENT:
            trouble = None
        own_mtu = _find_own_mtu(link)
        word = _read_word(fault)
        if word is not None:
            # An announcement from a socket beside the links came to a link: it leads astray, too.
            fault = None
            if word.host_id == host_id and word.link_id != link.link_id:
                heard = Astray(astray=word.link_id)
        return WayReport(
            host_id=host_id,
            link_id=link.link_id,
            src=format_address((status.src_ipaddr, status.src_port)),
            dst=_format(status),
            has_address=has_address(parse_address(status.src_ipaddr, 0)),
            connected=watched.was_up and bool(watched.trips),
            enabled=status.enabled,
            sent=watched.sent,
            lost=watched.sent - len(watched.trips),
            latency=percentile(ranked, 50) if ranked else None,
            latency_p99=percentile(ranked, 99) if ranked else None,
            timeout=watched.timeout,
            path_mtu=watched.path_mtu if watched.is_narrow else _fill(watched),
            own_mtu=watched.own_mtu,
            told_mtu=own_mtu if 0 < own_mtu < watched.own_mtu else 0,
            step=watched.step,
            pings_sent=stats.tx_ping_packets - stats.tx_ping_errors,
            pings_heard=stats.rx_ping_packets,
            pongs_heard=stats.rx_pong_packets,
            late=_count(found, DropCause.UNEXPECTED_PONG),
            unopened=_count(found, *CRYPTO_CAUSES) if fault else 0,
            opened=opened,
            differs=fault.differs if fault and not opened else "",
            sealed_by=_name_seal(fault) if fault and not opened else "",
            elsewhere=_find_elsewhere(found) or "",
            astray=heard.astray,
            arrived_on=heard.arrived_on,
            other_id=_count(found, DropCause.UNKNOWN_HOST),
            other_link=_count(found, DropCause.UNKNOWN_LINK),
            trouble=trouble.text if trouble else "",
            errno=trouble.errno if trouble else 0,
            local=trouble is not None and trouble.local,
        )


def _count(found: LinkDiagnosis, *causes: DropCause) -> int:
    """Return the number of packets dropped for these causes."""
    return sum(found.drops[cause].count for cause in causes if cause in found.drops)


def _find_elsewhere(found: LinkDiagnosis) -> str | None:
    """Return the address that packets of the peer come from, None if it is the expected one."""
    if found.heard_from is not None:
        return found.heard_from
    for cause in _FROM_ELSEWHERE:
        drop = found.drops.get(cause)
        if drop is not None and (drop.at or -math.inf) > (found.ping_last or -math.inf):
            return drop.source
    return None


def _read_word(fault: CryptoFault | None) -> Word | None:
    """Return the announcement of a socket beside the links that came to a link, None for none."""
    return None if fault is None else read_word(bytes.fromhex(fault.datagram))


def _name_seal(fault: CryptoFault) -> str:
    """Return the cipher and the hash with which a key of this host opens packets, else ""."""
    if fault.hash is None:
        return ""
    return f"{fault.cipher or 'another cipher'} and {fault.hash}"


async def _ping(watched: WatchedLink, count: int, interval: float, offset: float) -> None:
    """Send pings over a link at regular intervals, without waiting for their answers."""
    began = trio.current_time() + offset
    async with trio.open_nursery() as nursery:
        for number in range(count):
            await trio.sleep_until(began + number * interval)
            watched.sent += 1
            nursery.start_soon(_ping_once, watched)


async def _ping_once(watched: WatchedLink) -> None:
    seconds = await watched.link.ping()
    if seconds is not None:
        watched.trips.append(seconds)


def _patience(link: Link) -> float:
    """Return the seconds that a link may take to come up, more if it got pongs."""
    config, stats = link.config, link.status.stats
    usual = _usual_patience(link)
    return usual + config.pong_timeout if stats.rx_pong_packets else usual


def _usual_patience(link: Link) -> float:
    """Return the seconds that a link takes to come up, with a reserve."""
    config = link.config
    # An attempt may have failed just before the other host was there.
    connecting = 2 * RECONNECT_INTERVAL if config.transport == "sctp" else 0.0
    return (config.pong_count + 3) * config.ping_interval + 0.5 + connecting


def _find_step(cluster: Cluster) -> int:
    """Return the step from one packet size to the next, in bytes: the cipher's block size, or 1."""
    crypto = cluster.crypto
    return 1 if crypto is None or crypto.cipher.endswith(_NO_BLOCKS) else _BLOCK


def _fill(watched: WatchedLink) -> int:
    """Return this machine's MTU, which no larger packet of ours fits in; 0 if none has passed."""
    return watched.own_mtu if watched.path_mtu else 0


def _find_own_mtu(link: Link) -> int:
    status = link.status
    if status.dst_ipaddr is None:
        return 0
    return find_mtu(Address(status.src_ipaddr, 0), Address(status.dst_ipaddr, status.dst_port or 1))


def _format(status: LinkStatus) -> str:
    if status.dst_ipaddr is None or status.dst_port is None:
        return ""
    return format_address((status.dst_ipaddr, status.dst_port))
