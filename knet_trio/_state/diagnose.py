"""The faults of a link and a handle, as records for programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from knet_trio._crypto.envelope import NONE
from knet_trio._state.loop_watch import read_cpu_times
from knet_trio._state.refusals import LastDrop
from knet_trio.errors import DropCause
from knet_trio.status import (
    ClosedChannel,
    CryptoFault,
    DropDetail,
    HandleDiagnosis,
    LinkDiagnosis,
    LinkTrouble,
)

if TYPE_CHECKING:
    # A link diagnoses itself with this.
    from knet_trio._state.context import Context
    from knet_trio._state.counters import Trouble, Unopened
    from knet_trio._state.loopback import LoopbackLinkState
    from knet_trio._state.network_link import NetworkLinkState

# The causes under which a sealed packet is dropped if there is no key.
_NOISE: Final = frozenset(
    {
        DropCause.NOT_AUTHENTIC,
        DropCause.MALFORMED,
        DropCause.WRONG_VERSION,
        DropCause.UNKNOWN_TYPE,
    }
)
# The causes with which a packet stays as it was received: no hash was right.
_AS_THEY_CAME: Final = frozenset({DropCause.NOT_AUTHENTIC, DropCause.CLEAR_TRAFFIC})


def diagnose_link(link: NetworkLinkState) -> LinkDiagnosis:
    """Return the diagnosis of a link over the network."""
    context, counters = link.context, link.counters
    liveness, path_mtu, address = link.heartbeat.liveness, link.path_mtu, link.address
    search = path_mtu.search
    hole, known = search.hole, search.onwire
    heard, challenged, pinged = address.heard, address.challenged, address.heard_peer_at
    return LinkDiagnosis(
        at=context.now(),
        counted=liveness.counted,
        pong_last=liveness.last_pong,
        ping_last=pinged if pinged >= 0 else None,
        heard_from=None if heard is None else str(heard.place),
        heard_at=None if heard is None else heard.at,
        challenged=None if challenged is None else str(challenged.place),
        connection_fault=None if link.destination is None else link.sender.fault,
        peer_connected=link.sender.peer_connected,
        late_pongs=liveness.late_pongs,
        late_pong=liveness.late_pong,
        late_at=liveness.late_at,
        searching=search.searching,
        path_mtu=None if known is None else search.sizes.sealed_length(known),
        lost_size=None if hole is None else search.sizes.sealed_length(hole),
        told_mtu=path_mtu.reported,
        small_buffers=link.endpoint.small_buffers,
        overflows=sum(endpoint.overflows for endpoint in link.sender.endpoints),
        trouble=_describe_trouble(counters.trouble),
        drops=_describe_drops(counters.drops, counters.last_drops),
        crypto_fault=_find_crypto_fault(context, counters.unopened),
    )


def diagnose_loopback(link: LoopbackLinkState) -> LinkDiagnosis:
    """Return the diagnosis of the link of a host to itself, without faults."""
    return LinkDiagnosis(
        at=link.context.now(),
        counted=0,
        pong_last=None,
        ping_last=None,
        heard_from=None,
        heard_at=None,
        challenged=None,
        connection_fault=None,
        peer_connected=None,
        late_pongs=0,
        late_pong=None,
        late_at=None,
        searching=False,
        path_mtu=None,
        lost_size=None,
        told_mtu=None,
        small_buffers=None,
        overflows=0,
        trouble=None,
        drops=MappingProxyType({}),
        crypto_fault=None,
    )


def diagnose_handle(context: Context) -> HandleDiagnosis:
    """Return the diagnosis of a handle."""
    counters, watch, now = context.counters, context.loop_watch, context.now()
    watch.look_at_clock(now)
    used, awaited = read_cpu_times() or (None, None)
    return HandleDiagnosis(
        at=now,
        forwarding=context.forwarding,
        encrypted=context.crypto.in_use != 0,
        drops=_describe_drops(counters.linkless_drops, counters.last_drops),
        crypto_fault=_find_crypto_fault(context, counters.unopened),
        closed_channels=tuple(
            ClosedChannel(channel=channel, messages=came.messages, host_id=came.host_id, at=came.at)
            for channel, came in sorted(counters.closed_channels.items())
        ),
        stalls=watch.stalls,
        stalled=watch.stalled,
        longest_stall=watch.longest,
        clock_steps=watch.steps,
        clock_step=watch.step,
        clock_step_at=watch.stepped_at,
        cpu_used=used,
        cpu_awaited=awaited,
    )


def _describe_trouble(trouble: Trouble | None) -> LinkTrouble | None:
    if trouble is None:
        return None
    return LinkTrouble(at=trouble.at, errno=trouble.errno, local=trouble.local, text=trouble.what)


def _describe_drops(
    drops: Mapping[DropCause, int], last_drops: Mapping[DropCause, LastDrop]
) -> Mapping[DropCause, DropDetail]:
    details: dict[DropCause, DropDetail] = {}
    for cause, count in drops.items():
        last = last_drops.get(cause)
        source = None if last is None else last.source
        details[cause] = DropDetail(
            count=count,
            at=None if last is None else last.at,
            source=None if source is None else str(source),
            text="" if last is None else str(last),
        )
    return MappingProxyType(details)


def _find_crypto_fault(context: Context, unopened: Unopened | None) -> CryptoFault | None:
    """Return how the crypto of the last unopened packet differs, None if that is unknown."""
    if unopened is None:
        return None
    differs, cipher, digest = _compare(context, unopened)
    if differs is None:
        return None
    # A packet that a key here has opened may contain a message, which must stay secret.
    as_it_came = unopened.cause in _AS_THEY_CAME or not context.crypto.is_set
    return CryptoFault(
        at=unopened.at,
        source=str(unopened.source),
        differs=differs,
        cipher=cipher,
        hash=digest,
        datagram=unopened.datagram.hex() if as_it_came else "",
        other_model=differs in ("key", "cipher", "hash")
        and context.crypto.is_other_model_untrusted(unopened.datagram, cipher),
    )


def _compare(context: Context, unopened: Unopened) -> tuple[str | None, str | None, str | None]:
    """Return what differs, and the cipher and hash with which a key of this host opens it."""
    cause = unopened.cause
    if not context.crypto.is_set:
        return ("sealed" if cause in _NOISE else None), None, None
    if cause is DropCause.CLEAR_TRAFFIC:
        return "clear", None, None
    if cause is not DropCause.NOT_AUTHENTIC:
        # The hash was right, but the decrypted bytes are noise.
        return "cipher", None, None
    found = context.crypto.find_names_untrusted(unopened.datagram)
    if found is None:
        return "key", None, None
    names, used = found
    # A cipher that authenticates has no hash.
    same_hash = names.hash == used.hash or NONE in (names.hash, used.hash)
    differs = "cipher" if same_hash else "hash"
    return differs, names.cipher, names.hash
