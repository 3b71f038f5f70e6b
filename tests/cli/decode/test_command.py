"""The command as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from knet_trio._crypto.envelope import make_cipher
from knet_trio.cli.commands import knet_trio
from tests.cli.decode.building import (
    ALPHA,
    BETA,
    KEY,
    OTHER_KEY,
    SECOND,
    data,
    ethernet,
    pcap,
    ping,
    pong,
    seal,
    udp,
)
from tests.cli.processes import ended

COMMAND = [sys.executable, "-W", "error", "-m", "knet_trio", "decode"]
PATIENCE = 60
OPENED, NOT_ALL, WRONG, DAMAGED = 0, 1, 2, 3


def record(*packets: tuple[bytes, bool]) -> bytes:
    """A capture of datagrams from alpha to beta, or (True) back, a millisecond after the other."""
    frames: list[tuple[int, bytes, int]] = []
    for i, (packet, back) in enumerate(packets):
        ends = (BETA, ALPHA) if back else (ALPHA, BETA)
        whole = ethernet(udp(packet, *ends))
        frames.append((1_700_000_000 * SECOND + i * SECOND // 1000, whole, len(whole)))
    return pcap(frames)


CLEAR = record((ping(1), False), (pong(1), True), (data(1), False), (data(3), False))
SEALED = record(
    *((seal(packet(i)), back) for i in range(3) for packet, back in ((ping, False), (pong, True)))
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two captures and three keys."""
    (tmp_path / "clear.pcap").write_bytes(CLEAR)
    (tmp_path / "sealed.pcap").write_bytes(SEALED)
    (tmp_path / "right.key").write_bytes(KEY.key)
    (tmp_path / "wrong.key").write_bytes(OTHER_KEY.key)
    (tmp_path / "short.key").write_bytes(b"short")
    return tmp_path


def run(place: Path, *arguments: str) -> Result:
    """The command with these arguments, `@name` for a file there."""
    found = [str(place / word[1:]) if word.startswith("@") else word for word in arguments]
    return CliRunner(env={"TZ": "UTC"}).invoke(knet_trio, ["decode", *found])


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_line_for_each_packet_and_a_summary(place: Path) -> None:
    result = run(place, "@clear.pcap")
    assert result.exit_code == OPENED, result.output
    lines = result.stdout.splitlines()
    where = r"^\d\d:\d\d:\d\d\.\d{6} 10\.0\.0\.1:5405 > 10\.0\.0\.2:5405 "
    assert re.search(where + "host 1 link 0 ping, number 1, clear$", lines[0])
    assert "host 2 link 0 pong, number 1, 1 ms after the ping, clear" in lines[1]
    assert re.search(where + "host 1 link 0 data 1 channel 0, 5 bytes, to all, clear$", lines[2])
    assert lines[5].startswith("4 frames in 0.003 s: 4 knet packets opened on 1 link, 0 not opened")
    assert re.search(r"^  data packets +2 +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^  numbers missing +1 +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^  round trip, half +1 ms$", result.stdout, re.MULTILINE)
    assert lines[-1].startswith("host 1: 2 messages, 1 number")
    only = run(place, "@clear.pcap", "--summary").stdout.splitlines()
    assert only == lines[5:]


def test_json_lines(place: Path) -> None:
    result = run(place, "@clear.pcap", "--json")
    first, second, third, _, summary = objects(result)
    assert first == {
        "type": "packet",
        "time": 1_700_000_000.0,
        "interface": None,
        "from": {"address": "10.0.0.1", "port": 5405},
        "to": {"address": "10.0.0.2", "port": 5405},
        "link": 0,
        "bytes": 26,
        "train": None,
        "kind": "ping",
        "host": 1,
        "key": None,
        "cut": False,
        "envelope": None,
        "number": 1,
        "forced": False,
    }
    assert second["round_trip_seconds"] == pytest.approx(0.001)
    assert (third["kind"], third["number"], third["data_bytes"]) == ("data", 1, 5)
    assert (summary["type"], summary["frames"], summary["damage"]) == ("summary", 4, None)
    (link,) = summary["links"]
    assert link["directions"][0]["packets"]["data"] == 2
    assert link["directions"][0]["numbers"]["missing"] == 1
    assert link["directions"][0]["pings"]["round_trip_seconds"]["count"] == 1


def test_the_documentation_names_every_field(place: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text(encoding="utf-8")
    names: set[str] = set()

    def collect(fields: dict[str, Any]) -> dict[str, Any]:
        names.update(fields)
        return fields

    for arguments in (("@clear.pcap",), ("@sealed.pcap", "--port", "5405")):
        for line in run(place, *arguments, "--json").stdout.splitlines():
            json.loads(line, object_hook=collect)
    # Those of hosts, channels and keys are values.
    assert {name for name in names if f"`{name}`" not in text} == {"0", "1"}


def test_keys(place: Path) -> None:
    sealed = ("@sealed.pcap", "--summary")
    result = run(place, *sealed, "--key", "@right.key")
    assert result.exit_code == OPENED
    assert "6 knet packets opened" in result.stdout
    result = run(place, *sealed)
    assert result.exit_code == NOT_ALL
    assert "look like knet sealed by AES-CBC with sha256 with a key that was not" in result.stdout
    result = run(place, *sealed, "--key", "@wrong.key")
    assert result.exit_code == NOT_ALL
    result = run(place, *sealed, "--key", "@wrong.key", "--key", "@right.key")
    assert result.exit_code == OPENED
    each = ("--cipher", "aes128", "--cipher", "aes256", "--hash", "sha512", "--hash", "sha256")
    result = run(place, *sealed, "--key", "@wrong.key", "--key", "@right.key", *each)
    assert result.exit_code == OPENED
    result = run(place, *sealed, "--key", "@right.key", "--cipher", "aes128", "--hash", "sha1")
    assert result.exit_code == NOT_ALL
    assert "right.key opens it with --cipher aes256 --hash sha256" in result.stdout


CLUSTER = """
[cluster]
key_file = "{key}"
port = {port}
[[hosts]]
id = 1
links = ["10.0.0.1"]
[[hosts]]
id = 2
links = ["10.0.0.2"]
"""


def test_the_keys_and_ports_of_a_cluster(place: Path) -> None:
    for name in ("right.key", "wrong.key"):
        (place / name).chmod(0o400)
    file = place / "lab.toml"
    sealed = ("@sealed.pcap", "--summary", "--cluster", "@lab.toml")
    file.write_text(CLUSTER.format(key="right.key", port=5405))
    assert run(place, *sealed).exit_code == OPENED
    file.write_text(CLUSTER.format(key="wrong.key", port=5405))
    assert run(place, *sealed).exit_code == NOT_ALL
    assert run(place, *sealed, "--key", "@right.key").exit_code == OPENED
    # The packets are not the cluster's, but for the port that is asked for.
    file.write_text(CLUSTER.format(key="right.key", port=6000))
    assert run(place, *sealed).exit_code == NOT_ALL
    assert run(place, *sealed, "--port", "5405").exit_code == OPENED
    file.write_text("[cluster")
    result = run(place, *sealed)
    assert result.exit_code == WRONG
    assert "lab.toml:1:" in result.output


def test_what_is_not_opened_has_a_line_where_it_is_known_to_be_knet(place: Path) -> None:
    lines = run(place, "@sealed.pcap", "--port", "5405").stdout.splitlines()
    assert sum("not opened: no key opens it, 80 bytes" in line for line in lines) == 6
    result = run(place, "@clear.pcap", "--port", "5406")
    assert result.exit_code == NOT_ALL
    assert "other frames: 4 UDP of other ports" in result.stdout


def test_the_end_after_some_packets(place: Path) -> None:
    result = run(place, "@clear.pcap", "--json", "-n", "2")
    assert [found["type"] for found in objects(result)] == ["packet", "packet", "summary"]
    assert objects(result)[-1]["frames"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either a FILE, or an interface with -i"),
        (["@clear.pcap", "-i", "lo"], "give either a FILE, or an interface with -i"),
        (["@clear.pcap", "--seconds", "1"], "--seconds only works with -i"),
        (["@nothing.pcap"], "there is no file"),
        (["@clear.pcap", "--key", "@nothing.key"], "nothing.key cannot be read: No such file"),
        (["@clear.pcap", "--key", "@short.key"], "short.key cannot be used: the key has 5 bytes"),
        (["@clear.pcap", "--key", "@right.key", "--cipher", "rot13"], "cipher 'rot13' is not"),
        (["@clear.pcap", "--key", "@right.key", "--hash", "crc"], "hash 'crc' is not known"),
        (["@clear.pcap", "--cipher", "aes256"], "give --key FILE too"),
        (
            ["@clear.pcap", "--key", "@right.key", "--hash", "sha1", "--hash", "md5"],
            "--hash is given 2 times for 1 keys",
        ),
    ],
)
def test_wrong_arguments(place: Path, arguments: list[str], words: str) -> None:
    result = run(place, *arguments)
    assert result.exit_code == WRONG
    assert words in " ".join(result.stderr.split())


def test_what_is_readable_of_a_damaged_file_is_shown(place: Path) -> None:
    (place / "cut.pcap").write_bytes(CLEAR[:-3])
    result = run(place, "@cut.pcap")
    assert result.exit_code == DAMAGED
    assert "data 1 channel 0" in result.stdout
    assert "data 3" not in result.stdout
    assert "3 frames in 0.002 s" in result.stdout
    assert result.stderr == (
        "the capture cannot be read further: cut off after 3 frames, at byte"
        f" {len(CLEAR) - 16 - 61}: 74 bytes are not a complete record\n"
    )
    (place / "text.pcap").write_text("no capture at all, but text")
    result = run(place, "@text.pcap", "--json")
    assert result.exit_code == DAMAGED
    (summary,) = objects(result)
    assert summary["damage"].startswith("neither pcap nor pcapng")
    result = run(place, "@", "--summary")
    assert (result.exit_code, result.stderr.partition(": ")[2]) == (DAMAGED, "Is a directory\n")


def test_memory_does_not_grow_with_the_file(place: Path) -> None:
    train = b"".join(make_cipher(KEY).seal([data(seq, payload=bytes(1300)) for seq in range(20)]))
    whole = ethernet(udp(train))
    frames = ((i, whole, len(whole)) for i in range(20))
    head, body = pcap([])[:24], pcap(frames)[24:]
    with open(place / "large.pcap", "wb") as file:
        file.write(head)
        for _ in range(15):
            file.write(body)
    # What is imported and cached at the first run is no part of it.
    assert run(place, "@sealed.pcap", "--key", "@right.key", "-s").exit_code == OPENED
    tracemalloc.start()
    try:
        result = run(place, "@large.pcap", "--key", "@right.key", "--summary")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.stdout.startswith("300 frames in 0.000 s: 6000 knet packets opened")
    assert most < 2_000_000 < (place / "large.pcap").stat().st_size / 4


def test_a_pipe_is_shown_as_it_comes_and_ends_by_a_signal() -> None:
    with ended(
        subprocess.Popen(
            [*COMMAND, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(CLEAR)
        process.stdin.flush()
        assert b"ping, number 1" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # Its input stays open.
        process.wait(PATIENCE)
        rest, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    # The account of what came is given all the same.
    assert b"4 knet packets opened" in rest
    assert errors == b"ended by SIGINT\n"


def test_a_pipe_to_the_end_and_a_reader_that_goes_away(place: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "-"], input=CLEAR, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (OPENED, b"")
    with open(place / "clear.pcap", "rb") as file:
        assert subprocess.run([*COMMAND, "-", "-s"], stdin=file, check=True).returncode == OPENED
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, str(place / "clear.pcap")],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_interface_that_there_is_not(place: Path) -> None:
    result = run(place, "-i", "nothing0")
    assert result.exit_code == 1
    assert re.search("cannot listen to nothing0: No such device|this user may not", result.stderr)
