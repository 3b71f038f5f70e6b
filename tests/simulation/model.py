"""What has to be so, and whether it was."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import trio

from knet_trio import DropCause
from knet_trio._core.defrag import DEFAULT_BUFFERS
from knet_trio.testing import Fate
from tests.drops import counted
from tests.simulation.cluster import Cluster
from tests.simulation.confirmations import Confirmations, Heard
from tests.simulation.messages import Name, Sent, read_name
from tests.simulation.node import Life
from tests.simulation.numbers import NUMBERS, WINDOW, Numbers, distance
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
        DropCause.IMPOSSIBLE_SOURCE,
        DropCause.NOT_AUTHENTIC,
        DropCause.CLEAR_TRAFFIC,
        DropCause.LINK_DISABLED,
        DropCause.PEER_UNREACHABLE,
        DropCause.REPLAYED,
        DropCause.RATE_LIMITED,
        DropCause.UNCONFIRMED,
    }
)
# Those of a message that never left, by host or by packet.
NOT_SENT = (
    DropCause.SEND_FAILED,
    DropCause.SEND_QUEUE_FULL,
    DropCause.HOST_DOWN,
    DropCause.UNKNOWN_DESTINATION,
)
# Of a host that gets more at once than it can work on.
OVERFLOW = (DropCause.RECEIVE_QUEUE_FULL, DropCause.CHANNEL_FULL)
# Those that excuse a message whose every fragment came through to its host.
NOT_TAKEN = (
    DropCause.PEER_UNREACHABLE,
    # Its host was removed.
    DropCause.UNKNOWN_HOST,
    DropCause.REASSEMBLY_GIVEN_UP,
    DropCause.STALE_FRAGMENT,
    *OVERFLOW,
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
# Seconds in which it is known which of several hosts are behind the others.
AT_ONCE = 0.5
# For as long as that what a host compresses may wait to be compressed or opened.
COMPRESSION = 15.0
# Bytes of a message that fit into a packet of every path here.
ALWAYS_FITS = 400


class BrokenPromiseError(AssertionError):
    """Something promised was not so."""


class Model:
    """Checks a cluster, act by act."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._scenario = cluster.scenario
        # Of every life: what it delivered, and counts of what its drops have to account for.
        self._numbers = Numbers()
        self._confirmations = Confirmations(cluster.scenario.pong_timeout)
        # When the act began.
        self._began = -math.inf
        self._delivered: dict[Sender, set[Name]] = defaultdict(set)
        self._fragments: Counter[Sender] = Counter()
        self._unsent: Counter[Sender] = Counter()
        self._untaken: Counter[Sender] = Counter()
        self._unfinished: Counter[Sender] = Counter()

    # Who reaches whom.

    def check_links(self, *, calm: bool = False) -> None:
        """Every host finds up what works, and nothing else. ``calm``: everything works."""
        cluster = self._cluster
        for life in cluster.lives():
            for (peer, link), seen in life.links.items():
                works = cluster.works(life.host, peer, link)
                if calm and not works:
                    raise AssertionError(f"the scenario is not over: {life.host} {peer} {link}")
                doubtful = self._scenario.lossy or cluster.is_slow(life.host, peer, link)
                if seen.now != works and (calm or not (works and doubtful)):
                    raise BrokenPromiseError(
                        f"{trio.current_time():.3f}: host {life.host} has link {link} to host"
                        f" {peer} {'up' if seen.now else 'down'}, which"
                        f" {'works' if works else 'does not work'}:"
                        f" {_explain(life, peer, link)}"
                    )
            for peer, seen in life.reach.items():
                reaches = cluster.reaches(life.host, peer)
                doubtful = self._scenario.lossy or any(
                    cluster.is_slow(life.host, peer, link) for link in range(self._scenario.links)
                )
                if seen.now != reaches and (calm or not (reaches and doubtful)):
                    raise BrokenPromiseError(
                        f"{trio.current_time():.3f}: host {life.host} finds host {peer}"
                        f" {'reachable' if seen.now else 'unreachable'}, and it is not"
                    )
                host = life.running.hosts.get(peer)
                if seen.now != (host is not None and host.status.reachable):
                    raise BrokenPromiseError(f"host {life.host} was not told of host {peer}")

    # Messages.

    def check_messages(self) -> None:
        """What was sent since the last call has arrived as it should, or there is a reason."""
        cluster = self._cluster
        witness = cluster.witness
        self._numbers.note(witness.tracks.values(), witness.controls, cluster.disabled)
        self._confirmations.note(witness.controls, cluster.disabled, cluster.paused)
        # A message that became too large for its path has another number for each try.
        tracks: dict[Name, list[Track]] = defaultdict(list)
        for track in witness.tracks.values():
            name = track.name()
            if name is not None:
                if (name.sender, name.life) != track.sender:
                    raise BrokenPromiseError(f"{name} was sent by {track.sender}")
                tracks[name].append(track)
                self._count_filtered(cluster.ledger[name], track)
            else:
                # Its other fragments never left.
                for crossing in track.crossings:
                    self._unfinished[crossing.to] += crossing.fate is Fate.DELIVERED
        for node in cluster.nodes.values():
            for life in node.lives:
                self._check_receipts(life, tracks)
        self._check_order(tracks)
        for sent in cluster.ledger.values():
            if sent.call.cancelled and sent.call.one and not sent.call.sync and tracks[sent.name]:
                raise BrokenPromiseError(f"{sent} was sent, though its call was cancelled")
            for host in sent.recipients:
                self._check_sent(sent, host, tracks[sent.name])
                self._check_isolation(sent, host, tracks[sent.name])
        for life in cluster.lives():
            self._check_accounts(life)
        cluster.ledger.clear()
        cluster.witness.clear()
        self._began = trio.current_time()

    def check_calls(self) -> None:
        """Nobody waits for a host any more, since all can be reached."""
        for life in self._cluster.lives():
            for call in life.calls:
                raise BrokenPromiseError(f"a call of {call.began:.3f} has not returned: {call}")

    def _check_order(self, tracks: dict[Name, list[Track]]) -> None:
        """What a task sends to a host leaves in that order, whoever else gets some of it."""
        last: dict[tuple[Sender, int, int], tuple[float, Sent, Track]] = {}
        for sent in self._cluster.ledger.values():
            if (
                sent.call.sync
                or len(tracks[sent.name]) != 1
                or self._scenario.deals(sent.name.sender)
            ):
                continue
            (track,) = tracks[sent.name]
            for host in sent.recipients:
                left = _first_left(track, host)
                if left is None or self._may_go_again(sent, left):
                    continue
                way = track.sender, sent.call.talker, host
                if way in last:
                    before, earlier, other = last[way]
                    behind = left == before and (other.number - track.number) % NUMBERS < WINDOW
                    if left < before or behind:
                        raise BrokenPromiseError(
                            f"{sent} left for host {host} at {left:.3f} with number"
                            f" {track.number}, before {earlier}: {before:.3f}, {other.number}"
                        )
                last[way] = left, sent, track

    def _may_go_again(self, sent: Sent, left: float) -> bool:
        """Whether no socket may have taken a message at first, since it was too large for all."""
        since = sent.at - self._scenario.pmtud_interval - 40 * max(0.1, 16 * self._scenario.trip)
        return len(sent.data) > ALWAYS_FITS and any(
            since <= changed <= left
            for changes in self._cluster.mtu_changed.values()
            for changed in changes
        )

    def _check_isolation(self, sent: Sent, host: int, tracks: list[Track]) -> None:
        """A message waits for the host that gets it, and for no other."""
        call = sent.call
        if call.sync or not (call.one or set(sent.recipients) == {host}):
            return
        if self._scenario.compresses(sent.name.sender):
            return
        times = [_first_left(track, host) for track in tracks]
        left = min((time for time in times if time is not None), default=None)
        if left is None or left <= sent.at + AT_ONCE:
            return
        for link in range(self._scenario.links):
            if self._worked(sent, host, link, sent.at - AT_ONCE, left):
                raise BrokenPromiseError(
                    f"{sent} left for host {host} at {left:.3f} only, though link {link} worked"
                )

    def _check_receipts(self, life: Life, tracks: dict[Name, list[Track]]) -> None:
        me = Sender(life.host, life.number)
        delivered = self._delivered[me]
        for at, channel, message in life.receipts:
            name = read_name(message.data)
            sent = None if name is None else self._cluster.ledger.get(name)
            if name is None or sent is None:
                raise BrokenPromiseError(
                    f"{at:.3f}: {me} got what nobody sent: {message.data[:40]!r}"
                )
            what = f"{at:.3f}: {me} got {sent}"
            whole = [track for track in tracks[name] if track.is_whole(self._taken(life, track))]
            if name in delivered and not self._is_forgotten(me, whole, at):
                raise BrokenPromiseError(f"{what} twice")
            if self._scenario.is_aead and any(
                name in self._delivered[Sender(me.host, number)] for number in range(1, me.life)
            ):
                raise BrokenPromiseError(f"{what}, as an earlier life of it did")
            delivered.add(name)
            if message.data != sent.data:
                raise BrokenPromiseError(f"{what} altered")
            if life.host not in sent.recipients:
                raise BrokenPromiseError(f"{what}, and it is not for it")
            if not channel == message.channel == sent.channel:
                raise BrokenPromiseError(f"{what} on channel {channel}")
            if message.source != name.sender:
                raise BrokenPromiseError(f"{what} from {message.source}")
            if not whole:
                raise BrokenPromiseError(f"{what}, of which something was lost")
            came = max(crossing.ended for crossing in whole[0].arrived(me))
            # What others send takes no time from those whose messages are opened at once.
            late = came + SLACK + self._compression(name.sender)
            if at > late and not self._cluster.paused[me.host].ever(True, came, at):
                raise BrokenPromiseError(f"{what}, of which nothing came after {came:.3f}")
            self._fragments[me] += len(whole[0].fragments)
            for track in tracks[name]:
                copies = track.arrived(me)
                if track is not whole[0]:
                    self._unfinished[me] += len(copies)
                else:
                    self._unfinished[me] += self._count_again(me, track, copies)
        life.receipts.clear()

    def _taken(self, life: Life, track: Track) -> list[Crossing]:
        """The fragments of a message that a host in its life may have taken."""
        came = track.arrived(Sender(life.host, life.number))
        if self._scenario.is_aead:
            # Nothing from before: it has to have asked.
            return [crossing for crossing in came if crossing.taken >= life.began]
        return came

    def _count_again(self, me: Sender, track: Track, copies: list[Crossing]) -> int:
        """How many fragments of a delivered message may wait for others, or did for a while.

        They are copies that came when the host could not know them for that: they begin the message
        again, of which the rest may never have come. Those that it was made of are not among them.
        """
        more = copies[len(track.fragments) :]
        if not more or not self._is_forgotten(me, [track], more[-1].ended):
            return 0
        # If that is so of one, it is of all that came later.
        return sum(self._is_forgotten(me, [track], copy.ended) for copy in more)

    def _is_forgotten(self, me: Sender, tracks: list[Track], at: float) -> bool:
        """Whether a copy came when a host could not know it for one any more."""
        if self._scenario.is_aead:
            return False
        return self._left_window(me, tracks, at) or any(
            self._was_removed(me, track, at)
            or self._numbers.restarted(track.sender, me, track.arrived(me)[0].ended, at)
            or self._seems_new(me, track, at)
            for track in tracks
        )

    def _was_removed(self, me: Sender, track: Track, at: float) -> bool:
        """Whether one of two hosts had removed the other: both begin to count anew then.

        A host itself forgets at once what came before, its sender tells it by a later ping.
        """
        removed, here, there = self._cluster.removed, me.host, track.sender.host
        return removed[here, there].ever(True, track.arrived(me)[0].ended, at) or removed[
            there, here
        ].ever(True, self._began, at)

    def _seems_new(self, me: Sender, track: Track, at: float) -> bool:
        """Whether a host was lost meanwhile, and a late ping of it told a number from before."""
        first = track.arrived(me)[0].ended
        reach = self._life(me).reach[track.sender.host]
        return reach.ever(False, first, at) and self._numbers.went_back(
            track.sender, me, track.number, first, at
        )

    def _left_window(self, me: Sender, tracks: list[Track], until: float) -> bool:
        """Whether one came from beyond the window of those known, since the first of a message."""
        paused = self._cluster.paused[me.host]
        if paused.at(until):
            until = paused.until(until)
        for track in tracks:
            first = track.arrived(me)[0].ended
            if paused.at(first):
                # What waited is taken from one socket after the other.
                first = paused.since(first)
            if self._numbers.left_window(track.sender, me, track.number, first, until):
                return True
        return False

    def _count_filtered(self, sent: Sent, track: Track) -> None:
        """What everybody got of a message, and only the receivers' filters knew for whom."""
        others = [
            crossing
            for crossing in track.crossings
            if crossing.fate is Fate.DELIVERED and crossing.to.host not in sent.recipients
        ]
        for crossing in others:
            self._unfinished[crossing.to] += 1

    def _check_sent(self, sent: Sent, host: int, tracks: list[Track]) -> None:
        node = self._cluster.nodes[host]
        if any(sent.name in self._delivered[Sender(host, life.number)] for life in node.lives):
            return
        what = f"{sent} did not arrive at host {host}"
        if sent.must and not any(
            self._is_mistaken(track, crossing.to, crossing.ended)
            for track in tracks
            for crossing in track.crossings
            if crossing.to.host == host and crossing.to.life == len(node.lives)
        ):
            raise BrokenPromiseError(f"{what}, though nothing was wrong")
        crossings = [c for track in tracks for c in track.crossings if c.to.host == host]
        if not any(
            track.is_whole(c for c in track.crossings if c.to.host == host) for track in tracks
        ):
            self._check_unsent(sent, host, what)
        for to in {crossing.to for crossing in crossings}:
            for track in tracks:
                arrived = track.arrived(to)
                self._unfinished[to] += len(arrived)
                arrived = [crossing for crossing in arrived if not crossing.again]
                if to.life and track.is_whole(arrived):
                    self._check_untaken(to, sent, track, what)
                    return
        if not self._scenario.lossy:
            for crossing in crossings:
                if crossing.fate is not Fate.DELIVERED:
                    self._check_lost(sent, crossing, what)

    def _compression(self, host: int) -> float:
        """How long what a host sends may wait since it is compressed, in seconds."""
        return COMPRESSION if self._scenario.compresses(host) else 0.0

    def _life(self, sender: Sender) -> Life:
        return self._cluster.nodes[sender.host].lives[sender.life - 1]

    def _check_unsent(self, sent: Sent, host: int, what: str) -> None:
        """A message, or some of its fragments, never left for that host."""
        sender = Sender(sent.name.sender, sent.name.life)
        life = self._life(sender)
        # With what was still on its way within the handle, or waited while that stood still.
        paused = self._cluster.paused[sender.host]
        left = paused.until(sent.at) if paused.at(sent.at) else sent.at
        compression = self._compression(sender.host)
        if life.ended <= left + 1 + SLACK + compression:
            return
        if self._cluster.is_stuck(sender.host, host, max(sent.at, life.ended - 1), life.ended):
            return
        if sent.call.cancelled:
            # A beginning of them was sent.
            return
        end = min(sent.call.done, life.ended) + SLACK + compression
        for link in range(self._scenario.links):
            if self._worked(sent, host, link, sent.at, end):
                raise BrokenPromiseError(f"{what}: it was not even sent, though link {link} worked")
        if sent.refused:
            return
        # Of those that everybody gets, the ones that are not there are no loss.
        if not sent.explicit and life.reach[host].ever(False, sent.at, end):
            return
        self._unsent[sender] += 1
        dropped = _total(life, NOT_SENT)
        if self._unsent[sender] > dropped:
            raise BrokenPromiseError(
                f"{what}: it was not even sent, and only {dropped} are accounted for"
            )

    def _worked(self, sent: Sent, host: int, link: int, begin: float, end: float) -> bool:
        """Whether a message could have been sent over a link."""
        sender = sent.name.sender
        life = self._life(Sender(sender, sent.name.life))
        up = life.links[host, link]
        return (
            not up.ever(False, begin, end)
            # Where no probe is answered, the path seems to carry nothing.
            and not life.reach[host].ever(False, begin, end)
            and not self._cluster.broken[sender, host, link].ever(True, begin, end)
            and not self._cluster.is_stuck(sender, host, begin, end)
        )

    def _check_untaken(self, to: Sender, sent: Sent, track: Track, what: str) -> None:
        """Every fragment of a message came through."""
        life = self._life(to)
        arrived = [crossing for crossing in track.arrived(to) if not crossing.again]
        first = min(crossing.ended for crossing in arrived)
        last = max(crossing.ended for crossing in arrived)
        paused = self._cluster.paused[to.host]
        if paused.at(last):
            last = paused.until(last)
        if life.ended <= last + SLACK + self._compression(sent.name.sender):
            return
        known = [
            crossing
            for crossing in arrived
            if not (self._from_nowhere(track, crossing) or self._is_disabled(track, crossing))
            and self._is_believed(track, crossing)
        ]
        if not track.is_whole(known) or self._is_mistaken(track, to, first):
            return
        # One from beyond the window has it begin anew.
        if self._left_window(to, [track], last):
            return
        if self._numbers.is_mixed(track.sender, to, track.number, last):
            return
        if self._was_overtaken(track, to, last):
            return
        self._untaken[to] += 1
        dropped = _total(life, NOT_TAKEN)
        peer = sent.name.sender
        doubted = life.reach[peer].ever(False, first, last + SLACK)
        if self._scenario.roaming and peer == self._scenario.hosts:
            doubted |= any(
                life.links[peer, c.link].ever(False, c.ended, c.ended + SLACK) for c in arrived
            )
        doubted |= _total(life, OVERFLOW) > 0
        doubted |= self._may_be_given_up(track, to, first, last)
        if not doubted or self._untaken[to] > dropped:
            raise BrokenPromiseError(
                f"{what}, though every fragment came through from {first:.3f} to {last:.3f}:"
                f" {_drops(life)}"
            )

    def _was_overtaken(self, track: Track, to: Sender, last: float) -> bool:
        """Whether data came first that was sealed later, and whose numbers are a window away.

        Model ``aead`` tells that what comes then is nothing new.
        """
        counters = [c.seal.counter for c in track.arrived(to) if c.seal is not None]
        return bool(counters) and any(
            distance(track.number, other.number) >= WINDOW
            and any(
                crossing.seal is not None
                and crossing.seal.counter > min(counters)
                and crossing.ended <= last
                for crossing in other.arrived(to)
            )
            for other in self._cluster.witness.tracks.values()
            if other.sender == track.sender
        )

    def _may_be_given_up(self, track: Track, to: Sender, first: float, last: float) -> bool:
        """Whether so many others in fragments came meanwhile that a host gives up the oldest."""
        if len(track.fragments) < 2:
            return False
        others = sum(
            len(other.fragments) > 1
            and other is not track
            and any(first <= crossing.ended <= last for crossing in other.arrived(to))
            for other in self._cluster.witness.tracks.values()
            if other.sender == track.sender
        )
        return others >= DEFAULT_BUFFERS

    def _is_believed(self, track: Track, crossing: Crossing) -> bool:
        """Whether its sender had answered since contact with it was lost, and then sealed it."""
        sender, to = track.sender, crossing.to
        if crossing.seal is None:
            return True
        removed = self._cluster.removed[to.host, sender.host]
        heard = Heard(self._life(to).reach[sender.host], removed)
        paused, at = self._cluster.paused[to.host], crossing.ended
        # What waits is looked at later.
        at = paused.until(at) if paused.at(at) else at
        return self._confirmations.is_believed(sender, to, crossing.seal, at, heard)

    def _from_nowhere(self, track: Track, crossing: Crossing) -> bool:
        """Whether a packet came from an address that its host had not been found at yet."""
        sender, to, link = track.sender, crossing.to, crossing.link
        moves = self._cluster.came_from[sender.host, to.host, link]
        moved = max((time for time in moves if time <= crossing.taken), default=-math.inf)
        if any(crossing.taken < time <= crossing.ended for time in moves):
            # It waited until its sender was somewhere else.
            return True
        # Its pong to a ping that went there.
        return moved > -math.inf and not any(
            control.link == link
            and moved <= control.taken
            # Of those that come at once it may be the last.
            and control.ended < crossing.ended
            and control.asked is not None
            and control.ended <= control.asked + self._scenario.pong_timeout
            for control in self._cluster.witness.controls[sender, to]
        )

    def _is_disabled(self, track: Track, crossing: Crossing) -> bool:
        """Whether a packet came over a link that was disabled where it came to."""
        disabled = self._cluster.disabled[crossing.to.host, track.sender.host, crossing.link]
        paused = self._cluster.paused[crossing.to.host]
        # What waits is looked at later.
        until = paused.until(crossing.ended) if paused.at(crossing.ended) else crossing.ended
        return disabled.ever(True, crossing.ended, until + SLACK)

    def _is_mistaken(self, track: Track, to: Sender, at: float) -> bool:
        """Whether its sender started again and its host could not know."""
        life = self._life(to)
        if track.sender.life == 1 or not _total(life, FRAGMENTS) or self._scenario.is_aead:
            return False
        before = self._life(track.sender._replace(life=track.sender.life - 1))
        reach = life.reach[track.sender.host]
        lost = before.ended if not reach.at(before.ended) else reach.until(before.ended)
        return self._numbers.is_mistaken(track.sender, to, track.number, at, lost)

    def _check_lost(self, sent: Sent, crossing: Crossing, what: str) -> None:
        """A copy of a fragment did not come through: was it known too late, or not at all?"""
        cluster, scenario = self._cluster, self._scenario
        sender = Sender(sent.name.sender, sent.name.life)
        life = self._life(sender)
        a, b, link = sender.host, crossing.to.host, crossing.link
        where = f"{what}: on link {link} at {crossing.taken:.3f} it was {crossing.fate}"
        trip = scenario.trip
        if crossing.fate is Fate.TOO_BIG:
            # Nobody may know before the next search, of which every probe may time out.
            probes = 40 * max(0.1, 16 * trip)
            if any(cluster.is_stuck(*way, -math.inf, crossing.taken) for way in ((a, b), (b, a))):
                # Pongs to pings that had to wait make the latency seem long, and probes patient.
                probes += 60
            changes = cluster.mtu_changed[link]
            changed = max((time for time in changes if time <= crossing.ended), default=-math.inf)
            if crossing.taken > changed + scenario.pmtud_interval + probes:
                raise BrokenPromiseError(f"{where}, which was no news")
            return
        if crossing.fate in (Fate.NO_HOST, Fate.REFUSED):
            # It is somewhere else now, of which only its next ping tells.
            soon = 2 * scenario.ping_interval + 12 * trip + SLACK
            moves = cluster.moved[a, b, link]
            if any(moved <= crossing.ended and crossing.taken <= moved + soon for moved in moves):
                return
        if crossing.fate is Fate.BUFFER_FULL and cluster.paused[b].at(crossing.ended):
            return
        broken = cluster.broken[a, b, link]
        if crossing.fate is Fate.DAMAGED and crossing.ended > crossing.taken + trip + 1:
            # It waited until its key was gone.
            return
        if not broken.ever(True, crossing.taken, crossing.ended):
            raise BrokenPromiseError(f"{where}, and nothing was broken")
        since = broken.since(crossing.taken)
        if not broken.at(crossing.taken) or crossing.taken < since:
            return
        up = life.links[b, link].since(crossing.taken)
        if (
            not life.links[b, link].at(crossing.taken)
            and up + SLACK < crossing.taken
            # What waits for room is with its link already.
            and not cluster.paused[a].ever(True, sent.at, crossing.taken)
        ):
            raise BrokenPromiseError(f"{where}, which was down since {up:.3f}")
        backoff = max(1, 10 - int(since - up)) if since > up else 10
        known = since + scenario.pong_timeout * backoff + scenario.ping_interval + 12 * trip + SLACK
        if crossing.taken > known:
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
        ] + life.gone
        received = sum(stats.rx_total_packets for stats in links)
        at_the_door = sum(drops.get(cause, 0) for cause in AT_THE_DOOR) - life.forgotten
        arrived = witness.arrived.get(me, 0)
        missing = arrived - received - at_the_door
        # Where the last link of a socket is removed, it is closed with what is still in it.
        closed = life.gone and (self._scenario.hosts == 2 or self._scenario.roaming)
        # Of model `aead`, a copy is known before the link is that it came over, if it is up.
        has_aead = any(config.model == "aead" for config in self._cluster.keys)
        copies = drops.get(DropCause.DUPLICATE, 0) if has_aead else 0
        if missing < 0 or (missing > copies and not closed):
            raise BrokenPromiseError(
                f"{me} got {arrived} packets, and counts {received} and {at_the_door} drops:"
                f" {_drops(life)}"
            )
        damaged = witness.damaged.get(me, 0)
        refused = drops.get(DropCause.NOT_AUTHENTIC, 0)
        # First it asks whether it took that counter already, and whether it believes the life.
        unasked = copies + drops.get(DropCause.UNCONFIRMED, 0) if has_aead else 0
        if not damaged - unasked <= refused <= damaged:
            raise BrokenPromiseError(f"{me} got {damaged} damaged packets: {_drops(life)}")
        data = sum(stats.rx_data_packets for stats in links)
        known = self._fragments[me] + sum(drops.get(cause, 0) for cause in FRAGMENTS)
        if not -min(missing, copies) <= data - known <= self._unfinished[me]:
            raise BrokenPromiseError(
                f"{me} got {data} fragments, of which {known} are accounted for, and"
                f" {self._unfinished[me]} may be of unfinished messages: {_drops(life)}"
            )


def _first_left(track: Track, host: int) -> float | None:
    """When the first of a message was taken by a socket, on its way to a host."""
    return min((c.taken for c in track.crossings if c.to.host == host), default=None)


def _explain(life: Life, host: int, link: int) -> str:
    if host not in life.running.hosts:
        return "it was removed"
    return life.running.hosts[host].links[link].explain()


def _total(life: Life, causes: Iterable[DropCause]) -> int:
    drops = life.running.statistics().drops
    return sum(drops.get(cause, 0) for cause in causes)


def _drops(life: Life) -> dict[str, int]:
    return {str(cause): count for cause, count in counted(life.running.statistics().drops).items()}
