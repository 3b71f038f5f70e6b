"""The command and what it is made of."""

from __future__ import annotations

import gc
import logging
from typing import Final

import click

import knet_trio as package
from knet_trio.cli.lazy import LazyGroup

# Each is imported when it is asked for.
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
    """Many links, one conversation: libknet's protocol for Trio programs."""
    # The command has been imported.
    gc.freeze()
    gc.enable()
    # The report tells what happens; warnings on stderr would tear its table apart.
    logging.getLogger("knet_trio").addHandler(logging.NullHandler())
