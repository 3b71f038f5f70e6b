"""The command ``decode`` and its options."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio

from knet_trio._crypto.aead import AEAD_NAMES
from knet_trio.cli.decode.capture import Capture
from knet_trio.cli.decode.cluster import cluster_keys, cluster_ports
from knet_trio.cli.decode.decoder import Decoder
from knet_trio.cli.decode.errors import CaptureError
from knet_trio.cli.decode.frame import Frame
from knet_trio.cli.decode.interface import InterfaceCapture
from knet_trio.cli.decode.json_lines import packet_object, summary_object
from knet_trio.cli.decode.keys import UnusableKeyError, read_keys
from knet_trio.cli.decode.text import packet_line, summary_lines
from knet_trio.cli.ending import leave_without_result, run_until_signal, status_after
from knet_trio.cli.ranges import NumberRange
from knet_trio.cluster import ClusterFileError, load_cluster

NOT_ALL_OPENED: Final = 1
WRONG_ARGUMENTS: Final = 2
DAMAGED: Final = 3

# The bytes read at once, which bound the memory.
_CHUNK: Final = 1 << 18
_STDIN: Final = "-"
_LAST_ROUNDS: Final = 100


class _Session:
    """A run of the command, from frames to lines of output."""

    def __init__(
        self, decoder: Decoder, *, as_json: bool, packets: bool, count: int | None
    ) -> None:
        self.decoder = decoder
        self.damage: str | None = None
        self.dropped = 0
        self._as_json = as_json
        self._packets = packets
        self._left = count

    def take(self, frame: Frame) -> bool:
        """Print the packets of a frame; return whether more are wanted."""
        for found in self.decoder.take(frame):
            if self._left is not None:
                if not self._left:
                    return False
                self._left -= 1
            if self._packets:
                line = json.dumps(packet_object(found)) if self._as_json else packet_line(found)
                sys.stdout.write(f"{line}\n")
        return self._left != 0

    async def read_file(self, name: str) -> None:
        """Take the frames of a file until its end, or until it is damaged."""
        capture = Capture()
        try:
            async with aclosing(_chunks(name)) as chunks:
                async for chunk in chunks:
                    if not all(self.take(frame) for frame in capture.feed(chunk)):
                        return
                    # Packets from a pipe are shown at once.
                    sys.stdout.flush()
            capture.finish()
        except CaptureError as error:
            self.damage = str(error)

    async def listen(self, name: str, seconds: float | None) -> None:
        """Take the frames of an interface until the time is over or the interface is gone."""
        interface = InterfaceCapture(name)
        click.echo(f"listening to {name}; end with Ctrl-C", err=True)
        more = True
        try:
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                while more:
                    await interface.wait()
                    more = all(self.take(frame) for frame in interface.take())
                    sys.stdout.flush()
        finally:
            # Frames that arrived before the end still count, but with much traffic there are
            # always more.
            for _ in range(_LAST_ROUNDS):
                if not more or not (frames := interface.take()):
                    break
                more = all(self.take(frame) for frame in frames)
            self.dropped = interface.count_dropped()
            interface.close()

    def summarize(self) -> None:
        """Print the summary."""
        self.decoder.finish()
        if self._as_json:
            summary = summary_object(self.decoder, self.damage, dropped=self.dropped)
            sys.stdout.write(json.dumps(summary) + "\n")
        else:
            if self._packets and self.decoder.frames:
                sys.stdout.write("\n")
            sys.stdout.writelines(f"{line}\n" for line in summary_lines(self.decoder))
            if self.dropped:
                sys.stdout.write(f"{self.dropped} frames arrived too fast and are not included\n")
        sys.stdout.flush()
        if self.damage is not None:
            click.echo(f"the capture cannot be read further: {self.damage}", err=True)

    @property
    def status(self) -> int:
        """The exit status of the command."""
        if self.damage is not None:
            return DAMAGED
        nothing = not any(record.opened for record in self.decoder.links)
        return NOT_ALL_OPENED if nothing or self.decoder.unopened else 0


async def _chunks(name: str) -> AsyncGenerator[bytes]:
    """Yield the bytes of a file or pipe; errors are raised as CaptureError."""
    try:
        opened = os.dup(0) if name == _STDIN else os.open(name, os.O_RDONLY | os.O_NONBLOCK)
        mode = os.fstat(opened).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            # Reading a regular file blocks only shortly, and a thread for each chunk would cost
            # more. For a directory this raises.
            with os.fdopen(opened, "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
                    # Signals are handled here.
                    await trio.lowlevel.checkpoint()
            return
        async with trio.lowlevel.FdStream(opened) as stream:
            while chunk := await stream.receive_some(_CHUNK):
                yield bytes(chunk)
    except OSError as error:
        raise CaptureError(str(error.strerror)) from None
    except trio.BrokenResourceError as error:
        raise CaptureError(str(error.__cause__)) from None


@click.command()
@click.argument("file", required=False)
@click.option("-i", "--interface", help="Listen to this interface instead; any for all.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A key file: a cluster's key or corosync's authkey. Repeat it for several keys.",
)
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A cluster file or corosync.conf: its keys, and its ports if there is no --port.",
)
@click.option(
    "--cipher",
    "ciphers",
    multiple=True,
    metavar="NAME",
    help="The cipher of the key: none, aes128, aes192, aes256, or one with -ctr; of model aead"
    f" {', '.join(AEAD_NAMES)}.  [default: aes256] Give it once for all keys, or once for each.",
)
@click.option(
    "--hash",
    "hashes",
    multiple=True,
    metavar="NAME",
    help="The hash of the key: md5, sha1, sha224, sha256, sha384, sha512.  [default: sha256]",
)
@click.option(
    "--find",
    is_flag=True,
    help="Try each key with all ciphers and hashes, and show which of them open packets.",
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    help="Look at UDP of this port only, and treat it as knet. Repeat it for several. Without it, a"
    " flow is knet if one of its packets can be opened.",
)
@click.option("-s", "--summary", is_flag=True, help="Print only the summary, not the packets.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after this many packets.")
@click.option(
    "--seconds", type=NumberRange(0, min_open=True), help="With -i: end after this many seconds."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def decode(
    file: str | None,
    interface: str | None,
    keys: tuple[Path, ...],
    clusters: tuple[Path, ...],
    ciphers: tuple[str, ...],
    hashes: tuple[str, ...],
    find: bool,
    ports: tuple[int, ...],
    summary: bool,
    count: int | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Open the knet packets of a capture, show them, and summarize each link.

    FILE is a capture of tcpdump or Wireshark (pcap, pcapng), or - for standard input. With -i the
    command listens to an interface until Ctrl-C, which needs root. No host has to run.

    Each packet is one line: time, from, to, host, link, kind and numbers. A summary of each link
    follows: packets by kind, round trips between pings and pongs as seen where the capture was
    made, and loss, duplicates and order by the numbers of messages. Packets that are not opened are
    counted by reason.

    \b
    Examples:
      knet-trio decode cluster.pcap --cluster /etc/corosync/corosync.conf
      knet-trio decode old.pcapng --key a.key --key b.key --cipher aes256 --hash sha512
      knet-trio decode lab.pcap --key a.key --key b.key --find --summary
      knet-trio decode -i eth0 --port 5405 --key lab.key --seconds 10 --summary
      ssh alpha tcpdump -U -w - udp | knet-trio decode - --key lab.key --json

    Exit status: 0 if all knet packets could be opened, 1 if some could not or there were none, 2
    for wrong arguments, 3 if the capture is damaged or cut off (the packets before are shown), 128
    plus the number of the signal if one ended the command before the end of FILE.
    """  # noqa: D301  # click wants the character
    if (file is None) == (interface is None):
        raise click.UsageError("give either a FILE, or an interface with -i")
    if seconds is not None and interface is None:
        raise click.UsageError("--seconds only works with -i: leave it out for a FILE")
    try:
        found = read_keys(keys, ciphers, hashes)
        files = [load_cluster(path) for path in clusters]
    except (UnusableKeyError, ClusterFileError) as error:
        raise click.UsageError(str(error)) from None
    for cluster in files:
        found += cluster_keys(cluster)
    if not ports:
        ports = tuple({port for cluster in files for port in cluster_ports(cluster)})
    if find and not found:
        raise click.UsageError("--find needs keys to try: give --key FILE or --cluster FILE too")
    decoder = Decoder(found, ports, find=find)
    session = _Session(decoder, as_json=as_json, packets=not summary, count=count)
    if file is not None:
        if file != _STDIN and not os.path.exists(file):
            raise click.UsageError(f"there is no file {file}")
        outcome = run_until_signal(partial(session.read_file, file), OSError)
    else:
        assert interface is not None
        outcome = run_until_signal(
            partial(session.listen, interface, seconds), OSError, CaptureError
        )
        if isinstance(outcome, signal.Signals):
            # A signal is the normal end.
            outcome = None
    if isinstance(outcome, BaseException):
        leave_without_result(outcome, "cannot decode")
    try:
        session.summarize()
    except BrokenPipeError as error:
        leave_without_result(error, "cannot print")
    if isinstance(outcome, signal.Signals):
        click.echo(f"ended by {outcome.name}", err=True)
        sys.exit(status_after(outcome))
    sys.exit(session.status)
