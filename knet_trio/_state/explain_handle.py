"""The state of a handle, its hosts and its drops, as text for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knet_trio._state.explain_drops import explain_drops
from knet_trio._state.explain_host import explain_host
from knet_trio.errors import count_of

if TYPE_CHECKING:
    from knet_trio._state.context import Context
    from knet_trio._state.handle import HandleState

MOST_LINES: Final = 100
"""The number of lines after which no further host is explained; the rest is only counted."""


def explain_handle(handle: HandleState) -> str:
    """Return lines about the handle, then about each host, unreachable hosts first."""
    context, hosts = handle.context, handle.hosts.values()
    counters = context.counters
    unreachable = [host for host in hosts if not host.reachable.is_on]
    reachable = len(hosts) - len(unreachable)
    known = count_of(len(hosts), "host")
    state = (
        f"the handle of host {context.host_id} reaches {reachable} of {known};"
        f" messages of up to {handle.data_mtu} bytes go in one packet"
    )
    lines = [state]
    if not hosts:
        lines.append("  it has no hosts yet: add one with add_host")
    lines += (f"  {line}" for line in _explain_settings(context))
    # Drops that concern a link are explained there.
    lines += (
        f"  channel {channel} is not open: {count_of(came.messages, 'message')} for it lost, the"
        f" last of host {came.host_id}"
        for channel, came in sorted(counters.closed_channels.items())
    )
    lines += explain_drops(counters.linkless_drops, counters.last_drops, context.now())
    shown = 0
    for host in [*unreachable, *(host for host in hosts if host.reachable.is_on)]:
        if len(lines) >= MOST_LINES:
            break
        shown += 1
        lines += (f"  {line}" for line in explain_host(host).splitlines())
    if shown < len(hosts):
        lines.append(f"  and {count_of(len(hosts) - shown, 'more host')}: see explain() of each")
    return "\n".join(lines)


def _explain_settings(context: Context) -> list[str]:
    crypto = context.crypto
    clear = "accepted" if crypto.allow_clear_traffic else "refused"
    if crypto.in_use:
        sent = f"packets are sealed with crypto slot {crypto.in_use}"
    elif crypto.is_set:
        sent = "packets go in the clear though a crypto slot is set: select it with use_crypto"
    else:
        sent = "packets go in the clear"
    lines = [f"{sent}; clear packets are {clear}"]
    if not context.forwarding:
        lines.append("forwarding is off: turn it on with await handle.set_forwarding(True)")
    if not context.access_lists:
        lines.append("access lists are off: packets are accepted from any address")
    return lines
