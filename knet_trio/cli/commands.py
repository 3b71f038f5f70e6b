"""The group ``knet-trio`` and its commands."""

from __future__ import annotations

import gc
import logging
from typing import Final

import click

import knet_trio as package
from knet_trio.cli.lazy import LazyGroup

# Each command is imported when it is called.
_LAZY: Final = {
    "bench": "knet_trio.cli.bench.command",
    "check": "knet_trio.cli.check",
    "decode": "knet_trio.cli.decode.command",
    "demo": "knet_trio.cli.demo_command",
    "doctor": "knet_trio.cli.doctor.command",
    "events": "knet_trio.cli.events",
    "keygen": "knet_trio.cli.keygen",
    "metrics": "knet_trio.cli.metrics",
    "ping": "knet_trio.cli.ping",
    "preflight": "knet_trio.cli.preflight.command",
    "rekey": "knet_trio.cli.rekey",
    "run": "knet_trio.cli.run.command",
    "status": "knet_trio.cli.status",
    "top": "knet_trio.cli.top",
}


@click.group(cls=LazyGroup, lazy=_LAZY, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package.__version__, prog_name="knet-trio")
def knet_trio() -> None:
    """Run, check and examine the hosts of a cluster that speak libknet's protocol."""
    # All modules that the command needs are imported by now.
    gc.freeze()
    gc.enable()
    # The report shows what happens; warnings on stderr would break its table.
    logging.getLogger("knet_trio").addHandler(logging.NullHandler())
