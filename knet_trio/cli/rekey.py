"""``knet-trio rekey``: changes the key of all hosts of a cluster, from one of them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from knet_trio._crypto.aead import AEAD_NAMES
from knet_trio.cli.looking import DOWN, json_option, look, socket_option
from knet_trio.cli.names import name_of
from knet_trio.config import is_aead
from knet_trio.control import ControlClient, ControlProtocolError
from knet_trio.control.codec import MisfitError, dump, from_json, to_json
from knet_trio.rekeying import HostOutcome, Phase, RekeyedHost, RekeyReport


@click.command()
@socket_option
@click.option(
    "--exclude",
    metavar="HOST",
    multiple=True,
    help="Leave out a host, by name or id: one that is gone for good, or whose key is changed by"
    " hand. It receives no requests. May be repeated.",
)
@click.option(
    "--drop",
    is_flag=True,
    help="Make all hosts drop a new key that none of them uses yet, and begin no change.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Change the model too: aead, if all hosts run knet_trio; openssl, nss or gcrypt.",
)
@click.option(
    "--cipher",
    metavar="NAME",
    help=f"Change the cipher too: aes256 and others, or with model aead {', '.join(AEAD_NAMES)}.",
)
@click.option("--hash", metavar="NAME", help="Change the hash too, such as sha256.")
@json_option("one JSON object instead")
def rekey(
    socket: Path | None,
    exclude: tuple[str, ...],
    drop: bool,
    model: str | None,
    cipher: str | None,
    hash: str | None,
    as_json: bool,
) -> None:
    """Give all hosts of a cluster a new key, while messages flow.

    Each host first accepts the new key beside the old one (set), then writes it to its key file and
    seals with it (use), then drops the old one (clear). A phase begins when every host of the
    cluster file has confirmed the phase before. The new key is sent encrypted with the old one.

    If a host does not answer, the change stops before the old key is dropped, and the host is
    named. The same command, at any host, goes on with the change later. Hosts that run libknet do
    not answer: give them the key by hand, and go on with --exclude.

    With --model, --cipher or --hash the new key is used with these. The change stops before the old
    key is dropped: write the new names into the cluster file of every host, then run the command
    again. A new key of model aead is used when all hosts have answered each other under it; hosts
    without an answer are named.

    \b
    Example:
      $ knet-trio rekey
      $ knet-trio rekey --exclude gamma        (gamma will not come back)
      $ knet-trio rekey --model aead           (then write model = "aead" into the files,)
      $ knet-trio rekey                        (and finish it)

    Exit status: 0 if all hosts except excluded ones only have the new key, 1 if the change has
    stopped, 2 if it is not possible, for instance while another host does it, 3 if no running host
    is found.
    """  # noqa: D301  # click wants the character
    names = {"model": model, "cipher": cipher, "hash": hash}
    given = {name: value for name, value in names.items() if value is not None}
    if drop and given:
        raise click.UsageError("--drop begins no change: leave out --model, --cipher and --hash")
    report = look(socket, partial(_ask, exclude=exclude, drop=drop, names=given))
    if as_json:
        click.echo(dump(to_json(report)))
    if report is None:
        if not as_json:
            click.echo("the new key is dropped: all hosts only have the old one")
        return
    if not as_json:
        for line in describe_report(report):
            click.echo(line)
    sys.exit(0 if report.done else DOWN)


async def _ask(
    client: ControlClient, *, exclude: tuple[str, ...], drop: bool, names: dict[str, str]
) -> RekeyReport | None:
    parameters: dict[str, Any] = {"exclude": list(exclude), **names}
    if drop:
        parameters["drop"] = True
    result = await client.request("rekey", **parameters)
    if result is None:
        return None
    try:
        return from_json(RekeyReport, result)
    except MisfitError as error:
        raise ControlProtocolError(f"the host sent an invalid answer: {error}") from None


def describe_report(report: RekeyReport) -> list[str]:
    """Return the lines about a change of the key, for people."""
    lines = [_summarize(report)]
    if report.resumed:
        lines.append(f"this goes on with the change that host {report.began_by} began")
    if report.new_names is not None:
        lines.append(f"the new key is used with {report.new_names.describe()}")
    lines.append("")
    width = max(len(name_of(host)) for host in report.hosts)
    for host in report.hosts:
        reason = f": {host.reason}" if host.reason else ""
        lines.append(f"{name_of(host):<{width}}  {_state(host)}{reason}")
    lines += ["", f"salt        {report.salt}", f"fingerprint {report.fingerprint}"]
    if not report.done:
        lines += ["", _advise(report)]
    return lines


def _state(host: RekeyedHost) -> str:
    if host.outcome is HostOutcome.WAITING:
        return _WAITING[host.phase]
    return _STATES[host.outcome]


_STATES: Final = {
    HostOutcome.DONE: "only has the new key",
    HostOutcome.AWAY: "AWAY",
    HostOutcome.BY_HAND: "BY HAND",
    HostOutcome.REFUSED: "REFUSED",
    HostOutcome.EXCLUDED: "excluded",
}
_WAITING: Final = {
    None: "only has the old key",
    Phase.SET: "accepts the new key beside the old one",
    Phase.USE: "uses the new key, and accepts the old one",
    Phase.CLEAR: "only has the new key",
}


def _summarize(report: RekeyReport) -> str:
    count = sum(host.outcome is HostOutcome.DONE for host in report.hosts)
    if report.done:
        excluded = len(report.hosts) - count
        others = f"; {excluded} excluded" if excluded else ""
        have = "host has" if count == 1 else "hosts have"
        return f"the key is changed: {count} {have} only the new one{others}"
    if _waits_for_files(report):
        return (
            "the new key is in use; the old one is dropped when the cluster files say how the new"
            " one is used"
        )
    return (
        "the key is not changed yet, since not every host has answered or done its part; no message"
        " is lost meanwhile"
    )


def _waits_for_files(report: RekeyReport) -> bool:
    """Return whether all that is left to do is to write the new names into cluster files."""
    waiting = [host for host in report.hosts if host.outcome is HostOutcome.WAITING]
    return (
        report.new_names is not None
        and all(host.phase is Phase.USE for host in waiting)
        and any(host.reason for host in waiting)
        and not any(host.outcome in _STUCK for host in report.hosts)
    )


def _advise(report: RekeyReport) -> str:
    """Return the advice for a change that has stopped."""
    if _waits_for_files(report):
        return "when the files are changed, on any host: knet-trio rekey"
    stuck = [host for host in report.hosts if host.outcome in _STUCK]
    by_hand = [host.name for host in stuck if host.outcome is HostOutcome.BY_HAND]
    away = any(host.outcome is HostOutcome.AWAY for host in stuck)
    when = "when they are back" if away else "when that is corrected"
    lines = [f"{when}: knet-trio rekey"]
    if by_hand and report.new_names is not None and is_aead(report.new_names.model):
        lines.insert(
            0,
            f"by hand: run knet_trio with serve_rekeying on {', '.join(by_hand)}: a host with"
            " libknet cannot use model aead, and would be cut off",
        )
    elif by_hand:
        lines.insert(
            0,
            f"by hand: give {', '.join(by_hand)} the new key, which is in FILE.rekey beside the key"
            " file FILE, in base64 under new; then exclude them",
        )
    if stuck:
        left_out = " ".join(f"--exclude {quote(host.name)}" for host in stuck)
        lines.append(f"without them: knet-trio rekey {left_out}")
    if all(host.phase in (None, Phase.SET) for host in report.hosts):
        lines.append("to drop the new key: knet-trio rekey --drop")
    return "\n".join(lines)


_STUCK: Final = (HostOutcome.AWAY, HostOutcome.BY_HAND, HostOutcome.REFUSED)
