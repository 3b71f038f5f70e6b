"""``knet-trio ping``: round trips over the links to a host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio
from rich.console import Console
from rich.text import Text

from knet_trio.cli.looking import DOWN, json_option, look, open_console, socket_option
from knet_trio.cli.ranges import NumberRange
from knet_trio.cli.units import format_latency
from knet_trio.control import (
    ControlClient,
    ControlRequestError,
    ErrorCode,
    HostPing,
    HostReport,
    LinkPing,
)
from knet_trio.control.codec import dump
from knet_trio.errors import count_of

# The number of hosts that an error names.
_LISTED: Final = 8


@attrs.define
class Trips:
    """The results of the pings over one link.

    Attributes:
        last: The result of the last ping.
        sent: The number of pings sent; a link that is down is not pinged.
        seconds: The round trips of the answered pings, in seconds.
    """

    last: LinkPing
    sent: int = 0
    seconds: list[float] = attrs.field(factory=list[float])


@click.command()
@click.argument("host")
@socket_option
@click.option(
    "--link", type=click.IntRange(0, 7), default=None, help="Only over this link.  [default: all]"
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Pings to send over each link.",
)
@click.option(
    "--interval",
    type=NumberRange(0.01, 3600),
    default=1.0,
    show_default=True,
    help="Seconds from one ping to the next.",
)
@json_option("one JSON object at the end instead")
def ping(
    host: str, socket: Path | None, link: int | None, count: int, interval: float, as_json: bool
) -> None:
    r"""Ping a host over its links, and show the round trips and which link carries data.

    HOST is a name or an id. A link that is down is not pinged; the reason is shown.

    \b
    Example:
      knet-trio ping beta
      knet-trio ping 2 --link 1 --count 20 --interval 0.1

    Exit status: 0 if the host answered at least once over every link, 1 if not, 2 for wrong
    arguments or an unknown host, 3 if there is no running host to ask, 130 after Ctrl-C.
    """
    console = None if as_json else open_console()
    pinging = Pinging(host, link, count, interval, console)
    look(socket, pinging.run)
    if as_json:
        click.echo(dump(pinging.describe()))
    else:
        pinging.summarize()
    sys.exit(0 if pinging.answered else DOWN)


class Pinging:
    """A series of pings to a host, and their results.

    Args:
        host: The name or the id of the host.
        link: The only link to ping, None for all links.
        count: Pings to send over each link.
        interval: The seconds from one ping to the next.
        console: Shows each result; None to show none.
    """

    def __init__(
        self, host: str, link: int | None, count: int, interval: float, console: Console | None
    ) -> None:
        self._host: str | int = host
        self._link = link
        self._count = count
        self._interval = interval
        self._console = console
        self._last: HostPing | None = None
        self._trips: dict[int, Trips] = {}

    async def run(self, client: ControlClient) -> None:
        """Send the pings, one after the other, through a client of the running host."""
        self._host = await self._find(client)
        next_at = trio.current_time()
        for number in range(self._count):
            if number:
                next_at = max(next_at + self._interval, trio.current_time())
                await trio.sleep_until(next_at)
            self._take(number, await client.ping(self._host, self._link))

    async def _find(self, client: ControlClient) -> str | int:
        """Return the name of the host, or its id: a number that is no host's name.

        Raises:
            ControlRequestError: There is no such host.
        """
        text = str(self._host)
        hosts = (await client.status()).hosts
        if text in {host.name for host in hosts}:
            return text
        if text in {str(host.host_id) for host in hosts}:
            return int(text)
        raise ControlRequestError(ErrorCode.REFUSED, _describe_unknown(text, hosts))

    def _take(self, number: int, answer: HostPing) -> None:
        self._last = answer
        for link in answer.links:
            trips = self._trips.setdefault(link.link_id, Trips(link))
            trips.sent += link.sent
            trips.last = link
            if link.seconds is not None:
                trips.seconds.append(link.seconds)
            if self._console is not None:
                self._console.print(_line(number, link), soft_wrap=True)
                sys.stdout.flush()

    @property
    def answered(self) -> bool:
        """True if the host has a link, and answered at least once over every link."""
        return bool(self._trips) and all(trips.seconds for trips in self._trips.values())

    def describe(self) -> Any:
        """Return the results as ``--json`` prints them."""
        assert self._last is not None
        return {
            "host_id": self._last.host_id,
            "name": self._last.name,
            "ok": self.answered,
            "links": [
                {
                    "link_id": link_id,
                    "connected": trips.last.connected,
                    "in_use": trips.last.in_use,
                    "reason": trips.last.reason,
                    "sent": trips.sent,
                    "answered": len(trips.seconds),
                    "seconds": trips.seconds,
                    "min": min(trips.seconds, default=None),
                    "mean": sum(trips.seconds) / len(trips.seconds) if trips.seconds else None,
                    "max": max(trips.seconds, default=None),
                }
                for link_id, trips in sorted(self._trips.items())
            ],
        }

    def summarize(self) -> None:
        """Print the results of each link."""
        assert self._console is not None
        assert self._last is not None
        self._console.print()
        if not self._trips:
            self._console.print(f"{self._last.name} has no links")
        for link_id, trips in sorted(self._trips.items()):
            seconds = trips.seconds
            summary = f"link {link_id}: {len(seconds)} of {count_of(trips.sent, 'ping')} answered"
            if not trips.sent:
                summary = f"link {link_id}: down, not pinged"
            if seconds:
                mean = sum(seconds) / len(seconds)
                summary += (
                    f", {format_latency(min(seconds))} to {format_latency(max(seconds))},"
                    f" mean {format_latency(mean)}"
                )
            if trips.last.in_use:
                summary += "; messages go over it"
            self._console.print(Text(summary, "" if seconds else "bold red"), soft_wrap=True)


def _describe_unknown(text: str, hosts: Sequence[HostReport]) -> str:
    """Return the error for a host that there is not, with those that there are."""
    if not hosts:
        return f"there is no host {text!r}: the running host has none"
    listed = ", ".join(
        str(host.host_id) if host.name == str(host.host_id) else f"{host.host_id} ({host.name})"
        for host in hosts[:_LISTED]
    )
    more = f" and {len(hosts) - _LISTED} more" if hosts[_LISTED:] else ""
    return (
        f"there is no host {text!r}: the running host has {listed}{more}; knet-trio status lists"
        " them all"
    )


def _line(number: int, link: LinkPing) -> Text:
    line = Text(f"{number + 1:4}  link {link.link_id}  ")
    if link.seconds is not None:
        line.append(f"{format_latency(link.seconds):>8}", "green")
    elif link.connected:
        line.append("no answer", "bold red")
    else:
        line.append(f"down: {link.reason}", "bold red")
    if link.in_use:
        line.append("  carries data", "dim")
    return line
