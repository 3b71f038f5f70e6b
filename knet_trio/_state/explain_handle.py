"""What can be reached from a handle, and what was dropped, in words that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from knet_trio._state.explain_drops import explain_drops
from knet_trio._state.explain_host import explain_host

if TYPE_CHECKING:
    from knet_trio._state.context import Context
    from knet_trio._state.handle import HandleState

MOST_LINES: Final = 100
"""After how many lines no further host is explained. What is left out is told."""


def explain_handle(handle: HandleState) -> str:
    """Return lines on the handle, then on each host, those that cannot be reached first."""
    context, hosts = handle.context, handle.hosts.values()
    counters = context.counters
    unreachable = [host for host in hosts if not host.reachable.is_on]
    reachable = len(hosts) - len(unreachable)
    state = (
        f"the handle of host {context.host_id} reaches {reachable} of {len(hosts)} hosts;"
        f" messages of up to {handle.data_mtu} bytes go in one packet"
    )
    lines = [state]
    if not hosts:
        lines.append("  it has no hosts yet: add_host adds one")
    lines += (f"  {line}" for line in _explain_settings(context))
    # What concerns a link stands there.
    lines += (
        f"  channel {channel} is not open, and messages of host {came.host_id} came for it:"
        f" {came.messages} are lost"
        for channel, came in sorted(counters.closed_channels.items())
    )
    lines += explain_drops(counters.linkless_drops, counters.last_drops, context.now())
    told = 0
    for host in [*unreachable, *(host for host in hosts if host.reachable.is_on)]:
        if len(lines) >= MOST_LINES:
            break
        told += 1
        lines += (f"  {line}" for line in explain_host(host).splitlines())
    if told < len(hosts):
        lines.append(f"  and {len(hosts) - told} more hosts, each with an explain() of its own")
    return "\n".join(lines)


def _explain_settings(context: Context) -> list[str]:
    crypto = context.crypto
    clear = "taken" if crypto.allow_clear_traffic else "refused"
    if crypto.in_use:
        sent = f"packets are sealed with crypto slot {crypto.in_use}"
    elif crypto.is_set:
        sent = "packets go in the clear, though a crypto slot is set, which use_crypto uses"
    else:
        sent = "packets go in the clear"
    lines = [f"{sent}; clear ones are {clear}"]
    if not context.forwarding:
        lines.append("forwarding is off: await handle.set_forwarding(True) lets messages pass")
    if not context.access_lists:
        lines.append("access lists are off: any address may speak")
    return lines
