"""What has to be so, and whether it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import trio

from knet_trio import DropCause
from knet_trio.testing import Fate
from tests.simulation.cluster import Cluster
from tests.simulation.messages import Name, Sent, read_name
from tests.simulation.node import Life
from tests.simulation.witness import Crossing, Sender, Track

# Causes counted before a packet is counted as received on its link.
AT_THE_DOOR = frozenset(
    {
        DropCause.MALFORMED,
        DropCause.WRONG_VERSION,
        DropCause.UNKNOWN_TYPE,
        DropCause.HOST_INFO,
        DropCause.UNKNOWN_HOST,
        DropCause.UNKNOWN_LINK,
        DropCause.UNKNOWN_ADDRESS,
        DropCause.ACCESS_LIST,
        DropCause.NOT_AUTHENTIC,
        DropCause.CLEAR_TRAFFIC,
        DropCause.LINK_DISABLED,
        DropCause.PEER_UNREACHABLE,
        DropCause.FORWARDING_DISABLED,
    }
)
# Those of a message that never left, by host or by packet.
NOT_SENT = (DropCause.SEND_FAILED, DropCause.SEND_QUEUE_FULL, DropCause.HOST_DOWN)
# Those that excuse a message whose every fragment came through to its host.
NOT_TAKEN = (
    DropCause.PEER_UNREACHABLE,
    DropCause.REASSEMBLY_GIVEN_UP,
    DropCause.STALE_FRAGMENT,
    # A dynamic link that is down forgot where its peer is.
    DropCause.UNKNOWN_ADDRESS,
)
FRAGMENTS = (
    DropCause.DUPLICATE,
    DropCause.REPEATED_FRAGMENT,
    DropCause.STALE_FRAGMENT,
    DropCause.BAD_FRAGMENT,
)
# What a clock and a sum of floats may be off.
SLACK = 0.05


class BrokenPromiseError(AssertionError):
    """Something promised was not so."""


class Model:
    """Checks a cluster, act by act."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._scenario = cluster.scenario
        # Of every life: what it delivered, and counts of what its drops have to account for.
        self._delivered: dict[Sender, set[Name]] = {}
        self._fragments: Counter[Sender] = Counter()
        self._unsent: Counter[Sender] = Counter()
        self._untaken: Counter[Sender] = Counter()
        self._unfinished: Counter[Sender] = Counter()
        # The longest that a packet takes.
        self._trip = (
            self._scenario.latency
            + self._scenario.jitter
            + (self._scenario.latency if self._scenario.reorder else 0)
        )

    # Who reaches whom.

    def check_links(self, *, calm: bool = False) -> None:
        """Every host finds up what works, and nothing else. ``calm``: everything works."""
        cluster = self._cluster
        for life in cluster.lives():
            for (peer, link), seen in life.links.items():
                works = cluster.works(life.host, peer, link)
                if calm and not works:
                    raise AssertionError(f"the scenario is not over: {life.host} {peer} {link}")
                if seen.now != works and (calm or not (works and self._scenario.lossy)):
                    raise BrokenPromiseError(
                        f"{trio.current_time():.3f}: host {life.host} has link {link} to host"
                        f" {peer} {'up' if seen.now else 'down'}, which"
                        f" {'works' if works else 'does not work'}:"
                        f" {life.running.hosts[peer].links[link].explain()}"
                    )
            for peer, seen in life.reach.items():
                reaches = cluster.reaches(life.host, peer)
                if seen.now != reaches and (calm or not (reaches and self._scenario.lossy)):
                    raise BrokenPromiseError(
                        f"{trio.current_time():.3f}: host {life.host} finds host {peer}"
                        f" {'reachable' if seen.now else 'unreachable'}, and it is not"
                    )
                if seen.now != life.running.hosts[peer].status.reachable:
                    raise BrokenPromiseError(f"host {life.host} was not told of host {peer}")

    # Messages.

    def check_messages(self) -> None:
        """What was sent since the last call has arrived as it should, or there is a reason."""
        cluster = self._cluster
        tracks: dict[Name, Track] = {}
        for track in cluster.witness.tracks.values():
            name = track.name()
            if name is not None:
                if (name.sender, name.life) != track.sender:
                    raise BrokenPromiseError(f"{name} was sent by {track.sender}")
                tracks[name] = track
                self._count_filtered(cluster.ledger[name], track)
        for node in cluster.nodes.values():
            for life in node.lives:
                self._check_receipts(life, tracks)
        for sent in cluster.ledger.values():
            for host in sent.recipients:
                self._check_sent(sent, host, tracks.get(sent.name))
        for life in cluster.lives():
            self._check_accounts(life)
        cluster.ledger.clear()
        cluster.witness.clear()

    def _check_receipts(self, life: Life, tracks: dict[Name, Track]) -> None:
        me = Sender(life.host, life.number)
        delivered = self._delivered.setdefault(me, set())
        for at, channel, message in life.receipts:
            name = read_name(message.data)
            sent = None if name is None else self._cluster.ledger.get(name)
            if name is None or sent is None:
                raise BrokenPromiseError(
                    f"{at:.3f}: {me} got what nobody sent: {message.data[:40]!r}"
                )
            what = f"{at:.3f}: {me} got {sent}"
            if name in delivered:
                raise BrokenPromiseError(f"{what} twice")
            delivered.add(name)
            if message.data != sent.data:
                raise BrokenPromiseError(f"{what} altered")
            if life.host not in sent.recipients:
                raise BrokenPromiseError(f"{what}, and it is not for it")
            if not channel == message.channel == sent.channel:
                raise BrokenPromiseError(f"{what} on channel {channel}")
            if message.source != name.sender:
                raise BrokenPromiseError(f"{what} from {message.source}")
            self._fragments[me] += len(tracks[name].fragments)
        life.receipts.clear()

    def _count_filtered(self, sent: Sent, track: Track) -> None:
        """What everybody got of a message, and only the receivers' filters knew for whom."""
        others = [
            crossing
            for crossing in track.crossings
            if crossing.fate is Fate.DELIVERED and crossing.to.host not in sent.recipients
        ]
        for crossing in others:
            self._unfinished[crossing.to] += 1

    def _check_sent(self, sent: Sent, host: int, track: Track | None) -> None:
        node = self._cluster.nodes[host]
        if any(sent.name in self._delivered[Sender(host, life.number)] for life in node.lives):
            return
        what = f"{sent} did not arrive at host {host}"
        if sent.must:
            raise BrokenPromiseError(f"{what}, though nothing was wrong")
        crossings = [c for c in track.crossings if c.to.host == host] if track else []
        if track is None or not crossings:
            self._check_unsent(sent, host, what)
            return
        lives = {crossing.to for crossing in crossings}
        for to in lives:
            arrived = [c for c in crossings if c.to == to and c.fate is Fate.DELIVERED]
            if to.life and {c.fragment for c in arrived} == set(range(len(track.fragments))):
                self._check_untaken(to, sent, arrived, what)
                return
            self._unfinished[to] += len(arrived)
        if not self._scenario.lossy:
            for crossing in crossings:
                if crossing.fate is not Fate.DELIVERED:
                    self._check_lost(sent, crossing, what)

    def _life(self, sender: Sender) -> Life:
        return self._cluster.nodes[sender.host].lives[sender.life - 1]

    def _check_unsent(self, sent: Sent, host: int, what: str) -> None:
        """Nothing of a message left for that host."""
        sender = Sender(sent.name.sender, sent.name.life)
        life = self._life(sender)
        if sent.refused or life.reach[host].ever(False, sent.at, sent.at + SLACK):
            return
        # With what was still on its way within the handle.
        if life.ended <= sent.at + 1 + SLACK:
            return
        self._unsent[sender] += 1
        dropped = _total(life, NOT_SENT)
        if self._unsent[sender] > dropped:
            raise BrokenPromiseError(
                f"{what}: it was not even sent, and only {dropped} are accounted for"
            )

    def _check_untaken(self, to: Sender, sent: Sent, arrived: list[Crossing], what: str) -> None:
        """Every fragment of a message came through."""
        life = self._life(to)
        first = min(crossing.ended for crossing in arrived)
        last = max(crossing.ended for crossing in arrived)
        paused = self._cluster.paused[to.host]
        if paused.at(last):
            last = paused.until(last)
        if life.ended <= last + SLACK:
            return
        self._unfinished[to] += len(arrived)
        if self._moved(sent, to.host, arrived) or self._mistaken(sent, life, first):
            return
        self._untaken[to] += 1
        dropped = _total(life, NOT_TAKEN)
        peer = sent.name.sender
        doubted = life.reach[peer].ever(False, first, last + SLACK)
        if self._scenario.roaming and peer == self._scenario.hosts:
            doubted |= any(
                life.links[peer, c.link].ever(False, c.ended, c.ended + SLACK) for c in arrived
            )
        if not doubted or self._untaken[to] > dropped:
            raise BrokenPromiseError(
                f"{what}, though every fragment came through from {first:.3f} to {last:.3f}:"
                f" {_drops(life)}"
            )

    def _moved(self, sent: Sent, host: int, arrived: list[Crossing]) -> bool:
        """Whether its sender had just got another address, of which only its next ping tells."""
        moved = self._cluster.came_from.get((sent.name.sender, host, arrived[0].link), -math.inf)
        soon = 2 * self._scenario.ping_interval + 12 * self._trip + SLACK
        return moved <= arrived[0].sent <= moved + soon

    def _mistaken(self, sent: Sent, life: Life, first: float) -> bool:
        """Whether its sender started again and its host may not have noticed.

        By the protocol only a ping with the number 0 tells, and only if the last one had another:
        until then new messages with the numbers of old ones are taken for copies of those.
        """
        name = sent.name
        if name.life == 1 or not _total(life, [DropCause.DUPLICATE]):
            return False
        before = self._life(Sender(name.sender, name.life - 1))
        return not life.reach[name.sender].ever(False, before.ended, first)

    def _check_lost(self, sent: Sent, crossing: Crossing, what: str) -> None:
        """A copy of a fragment did not come through: was it known too late, or not at all?"""
        cluster, scenario = self._cluster, self._scenario
        sender = Sender(sent.name.sender, sent.name.life)
        life = self._life(sender)
        a, b, link = sender.host, crossing.to.host, crossing.link
        where = f"{what}: on link {link} at {crossing.sent:.3f} it was {crossing.fate}"
        trip = self._trip
        if crossing.fate is Fate.TOO_BIG:
            # Nobody may know before the next search, of which every probe may time out.
            probes = 40 * max(0.1, 16 * trip)
            changed = cluster.mtu_changed.get(link, -math.inf)
            if crossing.sent > changed + scenario.pmtud_interval + probes:
                raise BrokenPromiseError(f"{where}, which was no news")
            return
        if crossing.fate in (Fate.NO_HOST, Fate.REFUSED):
            # It is somewhere else now, of which only its next ping tells.
            moved = cluster.moved.get((a, b, link), -math.inf)
            if crossing.sent <= moved + 2 * scenario.ping_interval + 12 * trip + SLACK:
                return
        broken = cluster.broken[a, b, link]
        if not broken.ever(True, crossing.sent, crossing.ended):
            raise BrokenPromiseError(f"{where}, and nothing was broken")
        since = broken.since(crossing.sent)
        if not broken.at(crossing.sent) or crossing.sent < since:
            return
        up = life.links[b, link].since(crossing.sent)
        backoff = max(1, 10 - int(since - up)) if since > up else 10
        known = since + scenario.pong_timeout * backoff + scenario.ping_interval + 12 * trip + SLACK
        if crossing.sent > known:
            raise BrokenPromiseError(
                f"{where}, which was broken since {since:.3f}, known by {known:.3f}"
            )

    # Counters.

    def _check_accounts(self, life: Life) -> None:
        """Everything that a host's sockets got has been counted somewhere."""
        me = Sender(life.host, life.number)
        witness = self._cluster.witness
        drops = life.running.statistics().drops
        links = [
            link.status.stats
            for host in life.running.hosts.values()
            for link in host.links.values()
        ]
        received = sum(stats.rx_total_packets for stats in links)
        at_the_door = sum(drops.get(cause, 0) for cause in AT_THE_DOOR)
        arrived = witness.arrived.get(me, 0)
        if received + at_the_door != arrived:
            raise BrokenPromiseError(
                f"{me} got {arrived} packets, and counts {received} and {at_the_door} drops:"
                f" {_drops(life)}"
            )
        damaged = witness.damaged.get(me, 0)
        if drops.get(DropCause.NOT_AUTHENTIC, 0) != damaged:
            raise BrokenPromiseError(f"{me} got {damaged} damaged packets: {_drops(life)}")
        data = sum(stats.rx_data_packets for stats in links)
        known = self._fragments[me] + sum(drops.get(cause, 0) for cause in FRAGMENTS)
        if not 0 <= data - known <= self._unfinished[me]:
            raise BrokenPromiseError(
                f"{me} got {data} fragments, of which {known} are accounted for, and"
                f" {self._unfinished[me]} may be of unfinished messages: {_drops(life)}"
            )


def _total(life: Life, causes: Iterable[DropCause]) -> int:
    drops = life.running.statistics().drops
    return sum(drops.get(cause, 0) for cause in causes)


def _drops(life: Life) -> dict[str, int]:
    return {str(cause): count for cause, count in life.running.statistics().drops.items()}
