"""``knet-trio rekey``: changes the key of all hosts of a cluster, from one of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from knet_trio._crypto.aead import AEAD_NAMES
from knet_trio.cli.key_change import PHASE_WORDS
from knet_trio.cli.looking import DOWN, json_option, look, socket_option
from knet_trio.cli.names import name_of, title_of
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
    "--status",
    is_flag=True,
    help="Show how far a change is on each host, and change nothing. Exit status 1 if one is in"
    " progress, 0 if none is.",
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
    status: bool,
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
    key is dropped: write what it names into the cluster file of every host, then run the command
    again. A new key of model aead is used when all hosts have answered each other under it; hosts
    without an answer are named.

    \b
    Example:
      $ knet-trio rekey
      $ knet-trio rekey --exclude gamma        (gamma will not come back)
      $ knet-trio rekey --model aead           (then write model = "aead" into the files,
      $ knet-trio rekey                        without cipher and hash, and finish it)
      $ knet-trio rekey --status               (how far it is)

    Exit status: 0 if all hosts except excluded ones only have the new key, 1 if the change has
    stopped, 2 if it is not possible, for instance while another host does it, 3 if no running host
    is found.
    """  # noqa: D301  # click wants the character
    names = {"model": model, "cipher": cipher, "hash": hash}
    given = {name: value for name, value in names.items() if value is not None}
    if drop and status:
        raise click.UsageError("--status changes nothing: leave out --drop")
    if (drop or status) and given:
        raise click.UsageError(
            f"--{'drop' if drop else 'status'} begins no change: leave out --model, --cipher and"
            " --hash"
        )
    parameters: dict[str, Any] = {"exclude": list(exclude), **given}
    parameters |= {name: True for name, on in (("drop", drop), ("status", status)) if on}
    asked, report = look(socket, partial(_ask, parameters=parameters))
    if as_json:
        click.echo(dump(to_json(report)))
    else:
        for line in _describe(report, asked, exclude, drop=drop, status=status):
            click.echo(line)
    sys.exit(0 if report is None or report.done else DOWN)


async def _ask(
    client: ControlClient, *, parameters: dict[str, Any]
) -> tuple[int, RekeyReport | None]:
    """Return the id of the host that is asked, and its report."""
    result = await client.request("rekey", **parameters)
    if result is None:
        return client.hello.host_id, None
    try:
        return client.hello.host_id, from_json(RekeyReport, result)
    except MisfitError as error:
        raise ControlProtocolError(f"the host sent an invalid answer: {error}") from None


def _describe(
    report: RekeyReport | None, asked: int, exclude: Sequence[str], *, drop: bool, status: bool
) -> list[str]:
    if report is not None:
        return describe_report(report, asked, status=status)
    if not drop:
        return ["no change of the key is in progress"]
    if not exclude:
        return ["the new key is dropped: all hosts only have the old one"]
    names, were = ", ".join(exclude), "were" if exclude[1:] else "was"
    line = (
        f"the new key is dropped: all other hosts only have the old one; {names} {were} not asked,"
        " and may still accept the new one"
    )
    return [line]


def describe_report(
    report: RekeyReport, asked: int | None = None, *, status: bool = False
) -> list[str]:
    """Return the lines about a change of the key, for people.

    Args:
        report: The report.
        asked: The id of the host that was asked, None if not known.
        status: True if the change was only looked at.
    """
    began_by = next(
        (title_of(host.host_id, host.name) for host in report.hosts if _began(report, host)),
        f"host {report.began_by}",
    )
    if status and not report.done:
        lines = [f"a change of the key, begun by {began_by}, is in progress"]
    else:
        lines = [_summarize(report)]
        if report.resumed:
            lines.append(f"this continues the change that {began_by} began")
    if report.new_names is not None and not report.done:
        lines.append(f"the new key is used with {report.new_names.describe()}")
    lines.append("")
    width = max(len(name_of(host)) for host in report.hosts)
    for host in report.hosts:
        reason = f": {host.reason}" if host.reason else ""
        lines.append(f"{name_of(host):<{width}}  {_state(host)}{reason}")
    lines += ["", f"salt        {report.salt}", f"fingerprint {report.fingerprint}"]
    if not report.done:
        lines += ["", *_advise(report, asked)]
    return lines


def _began(report: RekeyReport, host: RekeyedHost) -> bool:
    return host.host_id == report.began_by


def _state(host: RekeyedHost) -> str:
    if host.outcome is HostOutcome.WAITING:
        return PHASE_WORDS[host.phase]
    return _STATES[host.outcome]


_STATES: Final = {
    HostOutcome.DONE: PHASE_WORDS[Phase.CLEAR],
    HostOutcome.AWAY: "AWAY",
    HostOutcome.BY_HAND: "BY HAND",
    HostOutcome.REFUSED: "REFUSED",
    HostOutcome.EXCLUDED: "excluded",
}


def _summarize(report: RekeyReport) -> str:
    count = sum(host.outcome is HostOutcome.DONE for host in report.hosts)
    if report.done:
        excluded = len(report.hosts) - count
        others = f"; {excluded} excluded" if excluded else ""
        have = "host has" if count == 1 else "hosts have"
        names = "" if report.names is None else f", with {report.names.describe()}"
        return f"the key is changed: {count} {have} only the new one{names}{others}"
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


def _advise(report: RekeyReport, asked: int | None) -> list[str]:
    """Return the advice for a change that has not ended."""
    excluded = [host for host in report.hosts if host.outcome is HostOutcome.EXCLUDED]
    stuck = [host for host in report.hosts if host.outcome in _STUCK]
    again = _command(excluded)
    if _waits_for_files(report):
        return [f"when the files are changed, on any host: {again}"]
    away = [host for host in stuck if host.outcome is HostOutcome.AWAY]
    lines = _advise_by_hand(report)
    if away:
        is_cut_off = _is_minority(report, [*excluded, *away])
        where = ", or now on a host that reaches more of the others" if is_cut_off else ""
        lines.append(f"when they are back{where}: {again}")
    elif stuck or any(host.reason for host in report.hosts if host not in excluded):
        lines.append(f"when that is corrected: {again}")
    else:
        lines.append(f"to continue it, on any host: {again}")
    left_out = [*excluded, *stuck]
    if stuck and not _is_minority(report, left_out) and all(h.host_id != asked for h in stuck):
        cut_off = ""
        if any(host.outcome is not HostOutcome.BY_HAND for host in stuck):
            cut_off = ", cut off until they have the key file of another host"
        lines.append(f"without them{cut_off}: {_command(left_out)}")
    if all(host.phase in (None, Phase.SET) for host in report.hosts):
        # All others answer, and may have the new key.
        silent = [
            host
            for host in stuck
            if host.host_id != asked
            and (host.outcome is not HostOutcome.REFUSED or host.phase is None)
        ]
        left_out = [*excluded, *silent]
        if not _is_minority(report, left_out):
            lines.append(f"to drop the new key: {_command(left_out, '--drop')}")
    return lines


def _is_minority(report: RekeyReport, left_out: Sequence[RekeyedHost]) -> bool:
    """Return whether fewer than half of the hosts remain: these must not go on by themselves."""
    return 2 * len(left_out) > len(report.hosts)


def _advise_by_hand(report: RekeyReport) -> list[str]:
    """Return the advice about hosts that do not answer on the service channel."""
    by_hand = [host.name for host in report.hosts if host.outcome is HostOutcome.BY_HAND]
    if not by_hand:
        return []
    if report.new_names is not None and is_aead(report.new_names.model):
        advice = (
            f"run knet_trio with serve_rekeying on {', '.join(by_hand)}: a host with libknet cannot"
            " use model aead, and would be cut off"
        )
    else:
        advice = (
            f"give {', '.join(by_hand)} the new key, which is in FILE.rekey beside the key file"
            " FILE, in base64 under new; then exclude them"
        )
    return [f"by hand: {advice}"]


def _command(excluded: Sequence[RekeyedHost], *options: str) -> str:
    """Return the command that excludes these hosts."""
    names = [part for host in excluded for part in ("--exclude", quote(host.name))]
    return " ".join(["knet-trio rekey", *options, *names])


_STUCK: Final = (HostOutcome.AWAY, HostOutcome.BY_HAND, HostOutcome.REFUSED)
