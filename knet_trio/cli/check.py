"""``knet-trio check``: the mistakes in a cluster file, or the links that each host would open."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import click

from knet_trio import CryptoConfig, InvalidArgumentError, format_address
from knet_trio.cli.completion import complete_hosts
from knet_trio.cli.ending import FAILED, describe_error
from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    ClusterHost,
    KeyChangeFiles,
    Mistake,
    find_own_host,
    load_cluster,
    plan_links,
)
from knet_trio.cluster._crypto_names import CryptoNames
from knet_trio.config import is_aead
from knet_trio.errors import count_of

LEARNT: Final = "an address that is learnt"
ONLY_KNET_TRIO: Final = (
    "model aead: all hosts have to run knet_trio; nodes of libknet, as corosync's, cannot join"
)
# With more hosts than this, only --host lists each link to each other host.
MANY: Final = 8


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--host",
    metavar="NAME_OR_ID",
    shell_complete=complete_hosts,
    help="Print the links of this host only.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output and nothing else.",
)
def check(file: str, host: str | None, as_json: bool) -> None:
    """Check a cluster file: print its mistakes, or the links that each host would open.

    FILE is a cluster file, or a corosync.conf; the key file that it names is read too. The command
    opens no link, and runs on any machine, whether a host of the cluster or not.

    All mistakes are printed at once on standard error, each with its line and column. A mistake in
    the syntax is printed alone.

    \b
    Example:
      $ knet-trio check lab.toml
      lab.toml:3:1: cluster.cypher: there is no such key: did you mean cipher?

    Exit status: 0 if the file can be used, 1 if not, 2 for wrong arguments.
    """  # noqa: D301  # click wants the character
    try:
        cluster = load_cluster(file)
        hosts = cluster.hosts if host is None else (cluster.get_host(host),)
    except ClusterFileError as error:
        if as_json:
            click.echo(json.dumps({"file": file, "ok": False, **_list(error.mistakes, ())}))
        else:
            click.echo(str(error), err=True)
        sys.exit(FAILED)
    except InvalidArgumentError as error:
        raise click.BadParameter(describe_error(error), param_hint="--host") from None
    own = _find_own(cluster)
    if as_json:
        result = {
            "file": file,
            "ok": True,
            **_list((), cluster.warnings),
            "name": cluster.name,
            "encrypted": cluster.crypto is not None,
            **_describe_crypto(cluster.crypto),
            "key_change": _describe_change(cluster),
            "this_host": own,
            "hosts": [_describe(cluster, each) for each in hosts],
        }
        click.echo(json.dumps(result))
        return
    for warning in cluster.warnings:
        click.echo(f"warning: {warning.describe(file)}", err=True)
    _print(cluster, hosts, own)


def _list(mistakes: tuple[Mistake, ...], warnings: tuple[Mistake, ...]) -> dict[str, Any]:
    return {
        name: [
            {"line": each.line, "column": each.column, "key": each.key, "text": each.text}
            for each in found
        ]
        for name, found in (("mistakes", mistakes), ("warnings", warnings))
    }


def _find_own(cluster: Cluster) -> int | None:
    """Return the id of the host that this machine is, None if it cannot be found out."""
    try:
        return find_own_host(cluster).host_id
    except InvalidArgumentError:
        return None


def _describe_crypto(crypto: CryptoConfig | None) -> dict[str, Any]:
    names = None if crypto is None else CryptoNames.of(crypto)
    return {
        "cipher": None if names is None else names.cipher,
        "hash": None if names is None else names.hash,
        "model": None if names is None else names.model,
        "libknet_can_join": names is None or not is_aead(names.model),
    }


def _describe_change(cluster: Cluster) -> dict[str, Any] | None:
    change = cluster.key_change
    if change is None or cluster.crypto is None or cluster.key_file is None:
        return None
    return {
        "file": str(KeyChangeFiles(cluster.key_file).change_file),
        "change_id": change.change_id,
        "began_by": change.began_by,
        "has_crypto": change.get_names(cluster.crypto.key) is not None,
    }


def _describe(cluster: Cluster, host: ClusterHost) -> dict[str, Any]:
    return {
        "id": host.host_id,
        "name": host.name,
        "links": [
            {
                "host": way.host_id,
                "link": way.link_id,
                "src": format_address(way.src),
                "dst": None if way.dst is None else format_address(way.dst),
                "transport": way.transport,
            }
            for way in plan_links(cluster, host)
        ],
    }


def _print(cluster: Cluster, hosts: tuple[ClusterHost, ...], own: int | None) -> None:
    sealed = "in the clear"
    if cluster.crypto is not None:
        sealed = f"with {CryptoNames.of(cluster.crypto).describe()}"
    name = f"{cluster.name!r}: " if cluster.name else ""
    click.echo(f"{name}{count_of(len(cluster.hosts), 'host')}, {sealed}")
    change = _describe_change(cluster)
    if change is not None:
        taken = "; cipher, hash and model are from that file" if change["has_crypto"] else ""
        click.echo(
            f"a change of the key is in progress ({change['file']}){taken}; knet-trio rekey"
            " continues it"
        )
    if cluster.crypto is not None and is_aead(cluster.crypto.model):
        click.echo(ONLY_KNET_TRIO)
    names = {host.host_id: host.name for host in cluster.hosts}
    for host in hosts:
        here = ", this machine" if host.host_id == own else ""
        click.echo(f"{host.name} (id {host.host_id}{here})")
        if len(hosts) > MANY:
            for link in host.links:
                at = LEARNT if link.address is None else format_address(link.address)
                click.echo(f"  link {link.link_id} at {at}")
            continue
        for way in plan_links(cluster, host):
            there = LEARNT if way.dst is None else format_address(way.dst)
            if way.transport != "udp":
                there += f" over {way.transport.upper()}"
            click.echo(
                f"  link {way.link_id} from {format_address(way.src)} to"
                f" {names[way.host_id]} at {there}"
            )
    if len(hosts) > MANY:
        click.echo("Each has links to all others; --host NAME shows those of one.")
