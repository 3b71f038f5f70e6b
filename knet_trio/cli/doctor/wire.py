"""Capturing of packets of silent peers that reach this machine, but not the program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing

from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.interface import ANY, InterfaceCapture
from knet_trio.cli.decode.network import Other, find_datagram
from knet_trio.cli.doctor.evidence import LinkKey, Snapshot


def list_silent_peers(snapshot: Snapshot) -> dict[str, LinkKey]:
    """Return the links without packets from their peers, by the peers' addresses and ports."""
    silent: dict[str, LinkKey] = {}
    for host in snapshot.report.hosts:
        for link in host.links:
            seen = snapshot.links.get((host.host_id, link.link_id))
            # Captures are only searched for UDP.
            if seen is None or link.dst is None or not link.enabled or link.transport != "udp":
                continue
            heard = [at for at in (seen.pong_last, seen.ping_last, seen.late_at) if at is not None]
            if not heard or seen.at - max(heard) > 2.5 * link.ping_interval:
                silent[_without_scope(link.dst)] = host.host_id, link.link_id
    return silent


async def count_arrivals(peers: Mapping[str, LinkKey], arrived: Counter[LinkKey]) -> None:
    """Count the packets of peers that arrive on any interface, until cancelled.

    If there are no peers, or this user may not capture packets, return at once.
    """
    if not peers:
        return
    try:
        capture = InterfaceCapture(ANY)
    except CaptureError:
        return
    with closing(capture):
        while True:
            await capture.wait()
            try:
                frames = capture.take()
            except CaptureError:
                # One interface is gone; go on with the others.
                continue
            for frame in frames:
                datagram = find_datagram(frame)
                if not isinstance(datagram, Other):
                    key = peers.get(str(datagram.source))
                    if key is not None:
                        arrived[key] += 1


def _without_scope(place: str) -> str:
    """Return an address and port without the scope of an IPv6 address."""
    before, percent, after = place.partition("%")
    return f"{before}]{after.partition(']')[2]}" if percent else place
