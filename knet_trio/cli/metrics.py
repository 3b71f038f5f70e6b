"""``knet-trio metrics``: the metrics of a running host, once, in Prometheus' text format."""

from __future__ import annotations

from pathlib import Path

import click

from knet_trio.cli.looking import REFUSED, json_option, leave, look, socket_option
from knet_trio.control import ControlClient, HandleMetrics
from knet_trio.control.codec import dump, to_json


@click.command()
@socket_option
@json_option("one JSON object instead, which needs no extra")
def metrics(socket: Path | None, as_json: bool) -> None:
    r"""Print the metrics of a running host once, in Prometheus' classic text format.

    Use it for a look, or for the textfile collector of Prometheus' node exporter. Prometheus
    itself scrapes the address that a cluster file has in its table [metrics], or that a program
    gives to serve_metrics.

    \b
    Example:
      knet-trio metrics | grep knet_drops_total
      knet-trio metrics --json | jq '.hosts[].links[].stats.latency_total'

    Exit status: 0, 2 for wrong arguments or if the extra `metrics` is missing, 3 if there is no
    running host to ask.
    """
    if as_json:
        click.echo(dump(to_json(look(socket, _measure))))
        return
    try:
        from knet_trio.metrics import make_classic_text
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("prometheus_client", "h11"):
            raise
        leave(f"{missing} is missing: pip install 'knet-trio[metrics]'", REFUSED)
    click.echo(make_classic_text(look(socket, _measure)), nl=False)


async def _measure(client: ControlClient) -> HandleMetrics:
    return await client.metrics()
