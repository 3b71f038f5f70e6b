"""``knet-trio run``: this host of a cluster file, as a service."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import click
import trio

from knet_trio import InvalidArgumentError
from knet_trio.cli.completion import complete_hosts
from knet_trio.cli.ending import describe_error, first_of, status_after
from knet_trio.cli.run.host_run import HostRun
from knet_trio.cli.run.log import LOGGER, open_log
from knet_trio.cli.run.parts import EXPECTED
from knet_trio.cli.run.supervisor import Supervisor
from knet_trio.cluster import ClusterFileError

WRONG_FILE: Final = 2
REFUSED: Final = 3


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--host",
    metavar="NAME_OR_ID",
    shell_complete=complete_hosts,
    help="The host of the file to run.  [default: the one whose addresses this machine has]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only the log on standard output, a JSON object a line.",
)
def run(file: str, host: str | None, as_json: bool) -> None:
    """Run this host of a cluster file, until SIGTERM or Ctrl-C.

    FILE is a cluster file, or a corosync.conf. The command opens the host's links and everything
    else that the file names: channels for local programs, a tap device, metrics, and the control
    socket for `knet-trio status` and other commands.

    After SIGHUP the file is read again. Settings that have not changed stay in force without a
    message lost; if there is a mistake in the file, everything goes on as before. Changes and
    mistakes are in the log, which goes to standard error.

    The command can run as a service of systemd, with Type=notify: see contrib/systemd.

    \b
    Example:
      $ knet-trio run lab.toml
      $ knet-trio run lab.toml --host beta

    Exit status: 0 after SIGTERM or Ctrl-C, 2 for wrong arguments or a file that cannot be used, 3
    if the system refuses something, such as a port or a socket; 130 or 143 if a second signal came
    before the host had closed everything.
    """  # noqa: D301  # click wants the character
    hurried: signal.Signals | None = None
    status = 0
    with open_log(as_json=as_json):
        supervisor = Supervisor(os.environ)
        try:
            hurried = trio.run(HostRun(file, host, supervisor).run)
        except* EXPECTED as errors:
            status = _explain(first_of(errors))
        finally:
            supervisor.close()
    if hurried is not None:
        status = status_after(hurried)
    sys.exit(status)


def _explain(error: BaseException) -> int:
    """Log why the host cannot run, and return the exit status."""
    if isinstance(error, ClusterFileError):
        for mistake in error.mistakes:
            LOGGER.error("%s", mistake.describe(error.path))
        return WRONG_FILE
    LOGGER.error("%s", describe_error(error))
    return WRONG_FILE if isinstance(error, InvalidArgumentError) else REFUSED
