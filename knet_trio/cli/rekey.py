"""``knet-trio rekey``: a new key for all hosts of a cluster, asked for at one of them."""

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
    " hand. It is told nothing. May be repeated.",
)
@click.option(
    "--drop",
    is_flag=True,
    help="Begin none: have all hosts forget a new key that none of them uses yet.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Change the model too: aead, where all hosts run knet_trio; openssl, nss or gcrypt.",
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

    Each host first accepts the new key beside the old one (set), then writes it into its key file
    and seals with it (use), then forgets the old one (clear). A phase begins when every host of the
    cluster file has confirmed the one before. The key goes to the hosts encrypted with the old one.

    If a host does not answer, it stops before the old key goes, and says which. The same command
    goes on with it later, at any host. Hosts that run libknet do not answer: give them the key by
    hand, and go on with --exclude.

    With --model, --cipher or --hash the new key is used with these. It stops before the old key
    goes, until you have written them into the cluster file of every host, and then goes on. A new
    key of model aead is not used before all hosts have answered each other under it; who has not
    is said.

    \b
    Example:
      $ knet-trio rekey
      $ knet-trio rekey --exclude gamma        (gamma will not come back)
      $ knet-trio rekey --model aead           (then write model = "aead" into the files,)
      $ knet-trio rekey                        (and finish it)

    Exit status: 0 if all hosts but the excluded ones have the new key alone, 1 if it has stopped, 2
    if it cannot be done, as while another host does it, 3 if there is no running host to ask.
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
            click.echo("the new key is forgotten: all hosts have the old one alone")
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
        raise ControlProtocolError(f"the host answers something else: {error}") from None


def describe_report(report: RekeyReport) -> list[str]:
    """Return what is said of a change of the key, for people."""
    lines = [_summarize(report)]
    if report.resumed:
        lines.append(f"it goes on with what host {report.began_by} began")
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
    HostOutcome.DONE: "has the new key alone",
    HostOutcome.AWAY: "AWAY",
    HostOutcome.BY_HAND: "BY HAND",
    HostOutcome.REFUSED: "REFUSED",
    HostOutcome.EXCLUDED: "excluded",
}
_WAITING: Final = {
    None: "has the old key alone",
    Phase.SET: "accepts the new key beside the old one",
    Phase.USE: "uses the new key, and accepts the old one",
    Phase.CLEAR: "has the new key alone",
}


def _summarize(report: RekeyReport) -> str:
    count = sum(host.outcome is HostOutcome.DONE for host in report.hosts)
    if report.done:
        excluded = len(report.hosts) - count
        others = f"; {excluded} excluded" if excluded else ""
        have = "host has" if count == 1 else "hosts have"
        return f"the key is changed: {count} {have} the new one alone{others}"
    return (
        "the key is not changed yet, as not every host has answered or done its part; no message is"
        " lost meanwhile"
    )


def _advise(report: RekeyReport) -> str:
    """Return what to do about a change that has stopped."""
    stuck = [host for host in report.hosts if host.outcome in _STUCK]
    by_hand = [host.name for host in stuck if host.outcome is HostOutcome.BY_HAND]
    away = any(host.outcome is HostOutcome.AWAY for host in stuck)
    when = "when they are there again" if away else "when that is put right"
    lines = [f"{when}: knet-trio rekey"]
    if by_hand and report.new_names is not None and is_aead(report.new_names.model):
        lines.insert(
            0,
            f"by hand: have {', '.join(by_hand)} run knet_trio, with what takes part in this: a"
            " host of libknet cannot have model aead, and is cut off without it",
        )
    elif by_hand:
        lines.insert(
            0,
            f"by hand: give {', '.join(by_hand)} the new key, which FILE.rekey beside the key file"
            " FILE has in base64, under new; then leave them out",
        )
    if stuck:
        left_out = " ".join(f"--exclude {quote(host.name)}" for host in stuck)
        lines.append(f"without them: knet-trio rekey {left_out}")
    if all(host.phase in (None, Phase.SET) for host in report.hosts):
        lines.append("to take it back: knet-trio rekey --drop")
    return "\n".join(lines)


_STUCK: Final = (HostOutcome.AWAY, HostOutcome.BY_HAND, HostOutcome.REFUSED)
