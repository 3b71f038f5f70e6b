"""``knet-trio top``: hosts and links of a running host, live."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console
from rich.live import Live

from knet_trio.cli.keys import raw_keys, read_keys
from knet_trio.cli.looking import REFUSED, json_option, leave, look, socket_option
from knet_trio.cli.ranges import NumberRange
from knet_trio.cli.status import describe
from knet_trio.cli.top_screen import Order, SetEnabled, TopScreen
from knet_trio.control import ControlClient, ControlRequestError
from knet_trio.control.codec import dump


@click.command()
@socket_option
@click.option(
    "--interval",
    type=NumberRange(0.1, 60),
    default=1.0,
    show_default=True,
    help="Seconds from one report to the next.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=None,
    help="With --json, end after this number of reports.",
)
@json_option("a JSON object at each interval, in a line of its own, instead")
def top(socket: Path | None, interval: float, count: int | None, as_json: bool) -> None:
    r"""Show the hosts and links of a running host live, with rates.

    The columns are those of "status". Keys: arrows, PgUp, PgDn, Home and End move; s sorts by the
    next column, r reverses the order; d disables the link after y, e enables it; h shows when it
    went up and down, and explains its state; q quits.

    \b
    Example:
      knet-trio top
      knet-trio top --json --count 2 | tail -1 | jq '.hosts[].links[].tx_data_rate'

    Exit status: 0 after q or --count reports, 2 for wrong arguments or without a terminal, 3 if
    there is no running host to ask or it ends, 130 after Ctrl-C.
    """
    if as_json:
        look(socket, partial(_print_lines, interval=interval, count=count))
        return
    console = Console(highlight=False)
    if not (sys.stdin.isatty() and console.is_terminal) or console.is_dumb_terminal:
        leave("top needs a terminal: use status, or top --json", REFUSED)
    if count is not None:
        leave("--count goes with --json", REFUSED)
    look(socket, partial(_show, console=console, interval=interval))


async def _print_lines(client: ControlClient, *, interval: float, count: int | None) -> None:
    before = None
    seen = 0
    while True:
        now = await client.status()
        print(dump(describe(now, before)), flush=True)
        before = now
        seen += 1
        if seen == count:
            return
        await trio.sleep(interval)


async def _show(client: ControlClient, *, console: Console, interval: float) -> None:
    screen = TopScreen()
    # Drawn when there is something new, and not by a thread.
    live = Live(console=console, screen=True, auto_refresh=False)
    with raw_keys(sys.stdin.fileno()), live:
        top = _Top(client, screen, console, live)
        top.draw()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(top.poll, interval)
            nursery.start_soon(top.follow_size)
            await top.follow_keys()
            nursery.cancel_scope.cancel()


class _Top:
    """The tasks that keep a screen up to date."""

    def __init__(
        self, client: ControlClient, screen: TopScreen, console: Console, live: Live
    ) -> None:
        self._client = client
        self._screen = screen
        self._console = console
        self._live = live

    async def poll(self, interval: float) -> None:
        """Fetch a report at regular intervals and draw it, until cancelled."""
        while True:
            self._screen.update(await self._client.status())
            await self._look_at_history()
            self.draw()
            await trio.sleep(interval)

    async def follow_size(self) -> None:
        """Draw again when the size of the terminal changes, until cancelled."""
        with trio.open_signal_receiver(signal.SIGWINCH) as signals:
            async for _ in signals:
                self.draw()

    async def follow_keys(self) -> None:
        """Carry out keys, until one quits or the terminal is closed."""
        async for key in read_keys(sys.stdin.fileno()):
            order = self._screen.press(key)
            if self._screen.done:
                return
            if order is not None:
                await self._carry_out(order)
            self.draw()

    async def _carry_out(self, order: Order) -> None:
        if not isinstance(order, SetEnabled):
            await self._look_at_history()
            return
        host_id, link_id = order.key
        try:
            await self._client.set("enabled", order.enabled, host=host_id, link=link_id)
        except ControlRequestError as error:
            self._screen.show_message(error.reason)
            return
        done = "enabled" if order.enabled else "disabled"
        self._screen.show_message(f"link {link_id} to host {host_id} is {done}")
        self._screen.update(await self._client.status())

    async def _look_at_history(self) -> None:
        if self._screen.history is None:
            return
        host_id, link_id = self._screen.history
        try:
            changes = await self._client.history(host_id, link_id)
            explanation = await self._client.explain(host_id, link_id)
        except ControlRequestError as error:
            # The link has been removed.
            if self._screen.history == (host_id, link_id):
                self._screen.history = None
            self._screen.show_message(error.reason)
        else:
            # Another link may have been chosen meanwhile.
            if self._screen.history == (host_id, link_id):
                self._screen.update_history(changes, explanation)

    def draw(self) -> None:
        """Draw the screen."""
        size = self._console.size
        self._live.update(self._screen.render(size.width, size.height), refresh=True)
