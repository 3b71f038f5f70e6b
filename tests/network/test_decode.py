"""`knet-trio decode` on what tcpdump captured of knet_trio, of libknet and of corosync.

The captures are made once, by one run of Trio before the first test. On veth, trains are uncut.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import pytest
import trio
from click.testing import CliRunner

from knet_trio import CompressConfig, CryptoConfig
from knet_trio.cli.commands import knet_trio
from tests.cli.test_command import COMMAND
from tests.interop.c_node import CCrypto
from tests.interop.conftest import need
from tests.interop.libknet import libknet_missing
from tests.interop.namespaces import NamespacePair, namespace_pair
from tests.interop.pairs import Pair, in_namespaces, open_pair
from tests.network.captures import captured, tcpdump_missing
from tests.network.conftest import KNET_TRIO
from tests.network.corosync import corosync_missing, open_corosync
from tests.network.relay import Tallies
from tests.network.traffic import OURS_SIDE, THEIR_SIDE, Account, above, open_traffic, over
from tests.network.wires import open_wires

LIMIT: Final = 60.0
OLD: Final = CCrypto(key=bytes(range(256)))
NEW: Final = CCrypto(key=bytes(reversed(range(256))), cipher="aes128", hash="sha512")
# Whole ones and fragments.
SIZES: Final = (1, 100, 5000, 60_000, 5000)
COMPRESSIBLE: Final = bytes(3000)
MANY: Final = 50
DELAY: Final = 0.03
OPENED, NOT_ALL = 0, 1


@dataclass(frozen=True)
class Captures:
    """A file of each kind, the keys, and what a relay and the hosts counted."""

    place: Path
    tallies: dict[int, Tallies]
    accounts: dict[int, Account]
    live: Sequence[dict[str, Any]]

    def decode(self, name: str, *options: str, status: int = OPENED) -> Sequence[dict[str, Any]]:
        """The JSON objects of the command, the summary last."""
        files = [str(self.place / word[1:]) if word[0] == "@" else word for word in options]
        result = CliRunner().invoke(knet_trio, ["decode", str(self.place / name), "--json", *files])
        assert result.exit_code == status, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Captures:
    """All captures."""
    for missing in (libknet_missing(), tcpdump_missing(), corosync_missing()):
        need(missing)
    return trio.run(make_captures, tmp_path_factory.mktemp("captures"))


async def make_captures(place: Path) -> Captures:
    (place / "old.key").write_bytes(OLD.key)
    (place / "new.key").write_bytes(NEW.key)
    with trio.fail_after(LIMIT):
        with namespace_pair(1) as namespaces:
            live = await capture_libknet(namespaces, place)
        with namespace_pair(1) as namespaces:
            await capture_corosync(namespaces, place)
        tallies, accounts = await capture_bad_wire(place)
    return Captures(place, tallies, accounts, live)


async def capture_libknet(namespaces: NamespacePair, place: Path) -> Sequence[dict[str, Any]]:
    """Our handle and libknet: in clear, sealed, and with another key; and what `-i` says of it."""
    async with (
        captured(namespaces, place / "clear.pcap"),
        open_pair(in_namespaces(namespaces)) as pair,
    ):
        await exchange_all(pair)
        await exchange_compressed(pair)
    device = ["decode", "-i", namespaces.device(0), "--json", "--key", str(place / "old.key")]
    with open(place / "live.json", "wb") as live:  # noqa: ASYNC230  # a moment
        process = await trio.lowlevel.open_process(
            namespaces.within(0, *COMMAND, *device),
            stdout=live,
            stderr=PIPE,
        )
    assert process.stderr is not None
    try:
        assert (await process.stderr.receive_some()).startswith(b"listening to veth0")
        async with (
            captured(namespaces, place / "sealed.pcap"),
            open_pair(in_namespaces(namespaces, crypto=OLD)) as pair,
        ):
            await exchange_all(pair)
            pair.ours.handle.set_crypto(CryptoConfig(NEW.key, NEW.cipher, NEW.hash), 2)
            await pair.c.set_crypto(NEW.model, NEW.cipher, NEW.hash, NEW.key, 2)
            pair.ours.handle.use_crypto(2)
            await pair.c.use_crypto(2)
            await exchange_all(pair)
            await exchange_compressed(pair)
        process.send_signal(signal.SIGINT)
        assert await process.stderr.receive_some() == b""
    except BaseException:
        process.kill()
        raise
    # That is how to end it, and some packets are of the other key.
    assert await process.wait() == NOT_ALL
    return [json.loads(line) for line in (place / "live.json").read_text().splitlines()]


async def exchange_all(pair: Pair) -> None:
    """Messages of all sizes both ways, all of them in one go."""
    await pair.ours.wait_data_mtu(above(1000))
    await pair.c.wait_data_mtu(above(1000))
    datas = [bytes([i]) * size for i, size in enumerate(SIZES)]
    datas += [i.to_bytes(2, "big") * 100 for i in range(MANY)]
    await pair.ours.channel.send_many(datas)
    assert await pair.c.receive_count(len(datas)) == datas
    await pair.c.send_many(datas)
    assert await pair.ours.receive_count(len(datas)) == datas


async def exchange_compressed(pair: Pair) -> None:
    """A compressed message each way."""
    pair.ours.handle.set_compress(CompressConfig("zlib"))
    await pair.c.set_compress("zlib", 6)
    await pair.ours.channel.send(COMPRESSIBLE)
    assert await pair.c.receive_count(1) == [COMPRESSIBLE]
    await pair.c.send(COMPRESSIBLE)
    assert await pair.ours.receive_count(1) == [COMPRESSIBLE]


async def capture_corosync(namespaces: NamespacePair, place: Path) -> None:
    async with captured(namespaces, place / "corosync.pcap"):
        key = place / "old.key"
        async with open_corosync(namespaces, place, key, cipher="aes256", hash="sha256"):
            pass


async def capture_bad_wire(place: Path) -> tuple[dict[int, Tallies], dict[int, Account]]:
    """Two of our handles on a wire that is slow, loses packets, repeats and delays them."""
    async with open_wires() as wires:
        namespaces = wires.namespaces
        async with (
            captured(namespaces, place / "ours.pcap", side=OURS_SIDE),
            captured(namespaces, place / "theirs.pcap", side=THEIR_SIDE),
        ):
            async with (
                open_pair(over(namespaces, KNET_TRIO)) as pair,
                open_traffic(pair) as traffic,
            ):
                await traffic.flow(10)
                await wires.treat(0, loss=0.1, duplicate=0.1, reorder=0.05, delay=DELAY)
                await traffic.flow(400)
                await wires.mend()
                accounts = await traffic.finish()
            tallies = {side: await wires.tallies(0, toward=side) for side in (0, 1)}
    # By the side toward which they were sent.
    return tallies, {THEIR_SIDE: accounts[0], OURS_SIDE: accounts[1]}


def way(summary: dict[str, Any], side: int) -> dict[str, Any]:
    """What that side sent on the only link."""
    (link,) = summary["links"]
    found: dict[str, Any] = link["directions"][side]
    assert found["hosts"] == [side + 1]
    return found


def data_of(packets: Sequence[dict[str, Any]], host: int) -> list[dict[str, Any]]:
    return [found for found in packets if found["kind"] == "data" and found["host"] == host]


BOTH_KEYS: Final = (
    *("--key", "@old.key", "--cipher", OLD.cipher, "--hash", OLD.hash),
    *("--key", "@new.key", "--cipher", NEW.cipher, "--hash", NEW.hash),
)


@pytest.mark.parametrize(
    ("name", "options"),
    [("clear.pcap", ()), ("sealed.pcap", BOTH_KEYS)],
    ids=["clear", "sealed"],
)
def test_all_of_knet_trio_and_libknet_is_read(
    captures: Captures, name: str, options: Sequence[str]
) -> None:
    *packets, summary = captures.decode(name, *options)
    rounds = 1 if name == "clear.pcap" else 2
    messages = rounds * (len(SIZES) + MANY) + 1
    assert summary["unopened"] == 0
    for side in (OURS_SIDE, THEIR_SIDE):
        sent = way(summary, side)
        # Each message arrived, so each was captured.
        assert sent["numbers"] == {
            "messages": messages,
            "whole": messages,
            "missing": 0,
            "missing_fragments": 0,
            "duplicates": 0,
            "late": 0,
            "restarts": 0,
        }
        assert sent["packets"]["ping"] > 0
        assert sent["packets"]["pong"] > 0
        assert sent["compressed"] == {"zlib": 1}
        assert sent["channels"] == {"0": sent["packets"]["data"]}
        sizes = {found["data_bytes"] for found in data_of(packets, side + 1)}
        assert 1 in sizes
        # An MTU of 1500, less the headers.
        assert 1300 < max(sizes) < 1472
    # It answered our probes on the way, so the largest one fills the MTU.
    assert 1400 < way(summary, OURS_SIDE)["path_mtu"]["largest_answered"] <= 1472
    # Ours leave in trains, libknet's one by one.
    assert way(summary, OURS_SIDE)["trains"] > 0
    assert way(summary, THEIR_SIDE)["trains"] == 0
    trains = [found["train"] for found in packets if found["train"] is not None]
    assert max(train["datagrams"] for train in trains) > 40
    largest = [found for found in data_of(packets, 1) if found["fragments"] > 40]
    numbers = {found["number"] for found in largest}
    assert len(numbers) == rounds
    for number in numbers:
        parts = [found for found in largest if found["number"] == number]
        assert [part["fragment"] for part in parts] == [*range(1, parts[0]["fragments"] + 1)]
    keys = {found["key"] for found in packets}
    assert keys == (
        {None}
        if not options
        else {
            f"{captures.place / 'old.key'} (aes256, sha256)",
            f"{captures.place / 'new.key'} (aes128, sha512)",
        }
    )


def test_one_of_two_keys(captures: Captures) -> None:
    *packets, summary = captures.decode("sealed.pcap", "--key", "@old.key", status=NOT_ALL)
    assert way(summary, 0)["numbers"]["messages"] == len(SIZES) + MANY
    assert {found.get("reason") for found in packets} == {None, "sealed"}
    assert summary["unopened"] == sum(found["kind"] is None for found in packets) > 0
    # The other one with the wrong names opens nothing, and the right ones are said.
    *packets, summary = captures.decode("sealed.pcap", "--key", "@new.key", status=NOT_ALL)
    assert packets == []
    hints = [hint for flow in summary["other_flows"] for hint in flow["hints"]]
    assert hints == []
    wrong = ("--cipher", "aes192-ctr", "--hash", "md5")
    *_, summary = captures.decode("sealed.pcap", "--key", "@old.key", *wrong, status=NOT_ALL)
    hints = [hint for flow in summary["other_flows"] for hint in flow["hints"]]
    assert hints == [f"{captures.place / 'old.key'} opens it with --cipher aes256 --hash sha256"]


def test_what_an_interface_says_as_it_passes(captures: Captures) -> None:
    *packets, summary = captures.live
    assert summary["dropped"] == 0
    assert way(summary, 0)["trains"] > 0
    *_, recorded = captures.decode("sealed.pcap", "--key", "@old.key", status=NOT_ALL)
    for side in (0, 1):
        assert way(summary, side)["numbers"] == way(recorded, side)["numbers"]
        assert way(summary, side)["packets"] == way(recorded, side)["packets"]
    assert {found["interface"] for found in packets} == {"veth0"}


def test_all_of_corosync_is_read(captures: Captures) -> None:
    *packets, summary = captures.decode("corosync.pcap", "--key", "@old.key")
    for side in (0, 1):
        sent = way(summary, side)
        assert (sent["numbers"]["missing"], sent["numbers"]["duplicates"]) == (0, 0)
        assert sent["packets"]["data"] > 0
        assert sent["pings"]["round_trip_seconds"]["count"] > 0
    # Its token goes from one host to the next, all else to everybody.
    assert {found["broadcast"] for found in data_of(packets, 1)} == {True, False}
    *_, summary = captures.decode("corosync.pcap", "--key", "@new.key", status=NOT_ALL)
    (seal,) = {flow["seems_sealed_by"] for flow in summary["other_flows"]} - {None}
    assert seal == "AES-CBC with sha256"


@pytest.mark.parametrize("toward", [OURS_SIDE, THEIR_SIDE])
def test_what_is_counted_is_what_the_wire_did(captures: Captures, toward: int) -> None:
    arrived = ("ours.pcap", "theirs.pcap")[toward]
    *_, summary = captures.decode(arrived)
    numbers = way(summary, 1 - toward)["numbers"]
    did = captures.tallies[toward].data
    assert numbers["missing"] == did["lost"] == len(captures.accounts[toward].lost) > 0
    assert numbers["duplicates"] == did["duplicated"] > 0
    assert 0 < numbers["late"] <= did["reordered"]
    # Where they were sent nothing is wrong with them.
    *_, summary = captures.decode(("theirs.pcap", "ours.pcap")[toward])
    numbers = way(summary, 1 - toward)["numbers"]
    assert [numbers[what] for what in ("missing", "duplicates", "late")] == [0, 0, 0]


def test_round_trips_depend_on_where_the_capture_is_made(captures: Captures) -> None:
    *_, here = captures.decode("ours.pcap")
    *_, there = captures.decode("theirs.pcap")
    # Our pings went over the wire and back here; there, only the answer took its time.
    assert way(here, 0)["pings"]["round_trip_seconds"]["most"] > 2 * DELAY
    assert way(there, 0)["pings"]["round_trip_seconds"]["median"] < DELAY
    assert way(there, 1)["pings"]["round_trip_seconds"]["most"] > 2 * DELAY
