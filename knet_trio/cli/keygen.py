"""``knet-trio keygen``: makes a key, and prints fingerprints to compare keys."""

from __future__ import annotations

import json
import os
from typing import Final

import click

from knet_trio import InvalidArgumentError
from knet_trio.cli.ending import describe_error
from knet_trio.cluster import (
    KeyFileError,
    make_fingerprint,
    parse_salt,
    read_key_file,
    write_key_file,
)

DEFAULT_SIZE: Final = 256
SALT_SIZE: Final = 4


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--size",
    type=click.IntRange(128, 4096),
    default=DEFAULT_SIZE,
    show_default=True,
    help="The size of the key in bytes.",
)
@click.option(
    "--fingerprint",
    "only_show",
    is_flag=True,
    help="Print the fingerprint of the key in FILE, and make no key.",
)
@click.option(
    "--salt",
    metavar="HEX",
    help="The salt of the fingerprint, as read out by the other side.  [default: a new one]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output and nothing else.",
)
def keygen(file: str, size: int, only_show: bool, salt: str | None, as_json: bool) -> None:
    """Make a key, and print a fingerprint of it.

    The key is written to FILE, which must not exist yet and which only its owner may read (mode
    0400). Copy it to every host over an encrypted connection, for instance with scp. The key is
    random and fits every crypto model, including aead.

    With fingerprints two people can compare their keys without revealing them: one reads out salt
    and fingerprint, by phone, the other gives the salt with --salt and compares the fingerprint.
    The fingerprint depends on the salt.

    \b
    Example:
      $ knet-trio keygen lab.key
      $ knet-trio keygen --fingerprint --salt 1f09c3d2 lab.key      (on the other host)

    Exit status: 0 on success, 1 if the file cannot be written or read, 2 for wrong arguments.
    """  # noqa: D301  # click wants the character
    try:
        salt_bytes = os.urandom(SALT_SIZE) if salt is None else parse_salt(salt)
    except InvalidArgumentError as error:
        raise click.BadParameter(describe_error(error), param_hint="--salt") from None
    try:
        if only_show:
            key = read_key_file(file)
        else:
            key = os.urandom(size)
            write_key_file(file, key)
    except KeyFileError as error:
        raise click.ClickException(describe_error(error)) from None
    result = {
        "file": file,
        "size": len(key),
        "salt": salt_bytes.hex(),
        "fingerprint": make_fingerprint(key, salt_bytes),
    }
    del key
    if as_json:
        click.echo(json.dumps(result))
        return
    if not only_show:
        click.echo(f"{file} has a new key of {size} bytes")
    click.echo(f"salt        {result['salt']}")
    click.echo(f"fingerprint {result['fingerprint']}")
    if only_show and salt is None:
        click.echo(f"on other hosts: knet-trio keygen --fingerprint --salt {result['salt']} FILE")
