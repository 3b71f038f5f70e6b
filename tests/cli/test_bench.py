"""The bench, in a hurry: that it measures, counts, tells, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from knet_trio.cli.bench.bed import (
    BARE,
    CLEAR,
    ENVELOPED,
    LIBKNET,
    MESSAGES,
    OURS,
    PLAIN,
    STREAMING,
    Bed,
    Dressing,
)
from knet_trio.cli.bench.case import Case, Measured
from knet_trio.cli.bench.cases import CASES
from knet_trio.cli.bench.kinds.aead import (
    AeadRefused,
    AeadRoundTrip,
    AeadThroughput,
    Refused,
)
from knet_trio.cli.bench.kinds.broadcast import BroadcastCost
from knet_trio.cli.bench.kinds.calls import Calls
from knet_trio.cli.bench.kinds.connect import Connect
from knet_trio.cli.bench.kinds.echo import Echo
from knet_trio.cli.bench.kinds.failover import Failover
from knet_trio.cli.bench.kinds.hosts import AddingHosts, RefusingHosts
from knet_trio.cli.bench.kinds.idle import Idle
from knet_trio.cli.bench.kinds.isolation import Isolation
from knet_trio.cli.bench.kinds.load import Load
from knet_trio.cli.bench.kinds.memory import Memory
from knet_trio.cli.bench.kinds.natural import Natural
from knet_trio.cli.bench.kinds.requests import Acknowledged, Requests
from knet_trio.cli.bench.kinds.streams import LinkChoice, StreamCut, StreamLoss, StreamThroughput
from knet_trio.cli.bench.kinds.throughput import Throughput
from knet_trio.cli.bench.kinds.turns import LongTurns
from knet_trio.cli.bench.libknet import build
from knet_trio.cli.bench.namespaces import namespaces_missing
from knet_trio.cli.bench.network import open_network
from knet_trio.cli.bench.process import PYTHON_PEER, BenchError, PeerError, open_peer
from knet_trio.cli.bench.report import BenchReport
from knet_trio.cli.bench.runner import run_cases
from knet_trio.cli.bench.yardstick import PARTS
from tests.cli.processes import ended

COMMAND: Final = [sys.executable, "-W", "error", "-P", "-m", "knet_trio", "bench"]
OUR_PEER: Final = (*PYTHON_PEER, "knet")
BARE_PEER: Final = (*PYTHON_PEER, "trio")
SEALED: Final = Dressing("sealed", "aes256", "sha256")
AEAD: Final = Dressing("aead", "aes256-gcm", "none", model="aead")
# Far more than any of it takes, so that a hang is a failure and not a wait for ever.
PATIENCE: Final = 120
# Of a round trip by sockets, on Trio 0.35 and CPython 3.13; other versions differ a little.
BARE_CALLS: Final = 280
HEADER: Final = Path("/usr/include/libknet.h")

needs_namespaces = pytest.mark.skipif(
    namespaces_missing() is not None, reason=str(namespaces_missing())
)
needs_libknet = pytest.mark.skipif(
    shutil.which("gcc") is None or not HEADER.exists(),
    reason="the libknet peer needs: apt-get install gcc libc6-dev libknet-dev",
)


def run(
    *arguments: str, env: Mapping[str, str] | None = None, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=env,
    )


# The command.


def test_a_case_is_measured_told_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "bench.png"
    tables = tmp_path / "bench.md"
    drawing = ["--plot", str(picture), "--markdown", str(tables)]
    done = run(
        *("--pairs", "1", "--seconds", "0.5", "--json", *drawing),
        *("--case", "throughput/loopback/64/clear", "--case", "roundtrip/loopback/64/clear"),
        *("--contender", OURS, "--contender", "sockets"),
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert [case["case"] for case in result["cases"]] == [
        "throughput/loopback/64/clear",
        "throughput/loopback/64/clear/one",
        "roundtrip/loopback/64/clear",
    ]
    assert [case["failure"] for case in result["cases"]] == [None] * 3
    rate = result["cases"][0]["metrics"]["rate"]
    assert list(rate["contenders"]) == [OURS, "sockets"]
    assert len(rate["contenders"][OURS]["rounds"]) == result["pairs"] == 1
    for spread in rate["contenders"].values():
        assert 0 < spread["least"] <= spread["median"] <= spread["greatest"]
    assert rate["ratios"]["sockets"]["median"] > 0
    assert list(result["cases"][1]["metrics"]["rate"]["contenders"]) == [OURS]
    assert picture.read_bytes().startswith(b"\x89PNG")
    for case in result["cases"]:
        assert set(case["yardstick"]) == {part.key for part in PARTS}
        assert all(0 < one["least"] <= one["median"] for one in case["yardstick"].values())
    assert result["yardstick"]["datagram"]["least"] > 0
    assert rate["contenders"]["sockets"]["in_sendto_recv"] > 0
    assert result["machine"]["kernel"] in done.stderr
    written = tables.read_text()
    assert result["machine"]["kernel"] in written
    assert [f"`{case['case']}`" in written for case in result["cases"]] == [True] * 3
    assert "bench --case throughput/loopback/64/clear --case roundtrip/" in written
    assert f"--contender {OURS} --contender sockets --pairs 1 --seconds 0.5" in written
    # Each contender's first turn of all, and no other.
    assert done.stderr.count("warm-up") == 2
    assert "by this" in done.stderr


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    letter = tmp_path / "letter.md"
    letter.write_text("Dear all")
    done = run("--quick", "--case", "connect", "--markdown", str(letter))
    assert done.returncode == 2
    assert "without the lines" in done.stderr
    assert letter.read_text() == "Dear all"


def test_the_list_and_what_does_not_fit() -> None:
    done = run("--list")
    assert done.stdout.split() == [case.name for case in CASES]
    done = run("--list", "--case", "roundtrip/*/64/clear")
    assert "roundtrip/loopback/64/clear" in done.stdout.split()
    assert all(name.startswith("roundtrip/") for name in done.stdout.split())
    done = run("--case", "throughput/moon")
    assert done.returncode == 2
    assert "no case fits 'throughput/moon'" in done.stderr


def test_without_the_c_source_there_is_no_libknet(tmp_path: Path) -> None:
    done = run(
        *("--quick", "--case", "connect", "--libknet-peer", str(tmp_path)),
        *("--contender", LIBKNET),
    )
    assert done.returncode == 1
    assert f"{LIBKNET} does not take part: " in done.stdout
    assert "no contender is left to measure" in done.stderr


def test_who_takes_part_in_no_case_is_told_so() -> None:
    done = run("--quick", "--case", "echo/clear", "--contender", "sockets")
    assert done.returncode == 1
    assert "there is nothing to measure: sockets takes part in none of the cases" in done.stderr


def test_no_module_of_the_current_directory_is_run(tmp_path: Path) -> None:
    # Both are imported by what the peer imports.
    for name in ("random", "trio"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the real one')")
    arguments = ("--quick", "--pairs", "1", "--case", "throughput/loopback/64/clear/one")
    done = run(*arguments, "--contender", OURS, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_quick_leaves_alone_what_is_given() -> None:
    arguments = ("--quick", "--pairs", "1", "--case", "throughput/loopback/64/clear/one")
    done = run(*arguments, "--contender", OURS, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert (result["pairs"], result["seconds"]) == (1, 0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_all_that_it_started(number: signal.Signals) -> None:
    mark = f"KNET_BENCH_TEST={os.getpid()}-{number}"
    name, value = mark.split("=")
    with ended(
        subprocess.Popen(
            [*COMMAND, "--case", "throughput/loopback/64/clear", "--contender", OURS],
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    ) as process:
        limit = time.monotonic() + PATIENCE
        # The command and two peers.
        while len(marked(mark)) < 3:
            assert time.monotonic() < limit
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in said
    assert marked(mark) == []


def marked(mark: str) -> list[int]:
    """The processes that have that in their environment."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


# Every kind of measurement once, with what is quick about it.


async def measure(
    case: Case, network_name: str, *, peer: tuple[str, ...] = OUR_PEER, contender: str = OURS
) -> Measured:
    bed = Bed({contender: peer}, 1.0, load_seconds=2.0, settle_seconds=0.0, pin=True)
    with trio.fail_after(PATIENCE):
        async with open_network(network_name, case.links) as network:
            measured = await case.measure(bed, contender, network)
    assert set(measured) == {metric.key for metric in case.metrics}
    return measured


@needs_namespaces
@pytest.mark.parametrize(
    "dressing",
    [
        CLEAR,
        SEALED,
        Dressing("lz4", compress="lz4", payload="text"),
    ],
    ids=lambda dressing: dressing.name,
)
async def test_throughput_between_namespaces(dressing: Dressing) -> None:
    measured = await measure(Throughput("veth", 8192, dressing), "veth")
    assert measured["rate"] > 0
    assert measured["bandwidth"] == pytest.approx(measured["rate"] * 8192 / 1e6)


@pytest.mark.parametrize("name", PLAIN)
async def test_the_others_send_too(name: str) -> None:
    engine, module = PLAIN[name]
    pytest.importorskip(module)
    peer = (*PYTHON_PEER, engine)
    measured = await measure(Throughput("loopback", 1400, CLEAR), "loopback", peer=peer)
    assert measured["rate"] > 0


@needs_libknet
async def test_the_c_library_understands_the_same(tmp_path: Path) -> None:
    peer = (str(await build(None, tmp_path)),)
    for case in (
        Throughput("loopback", 65000, SEALED),
        Load("loopback", 64, Dressing("lz4", compress="lz4", payload="text")),
        Connect(),
        RefusingHosts(20),
    ):
        measured = await measure(case, "loopback", peer=peer)
        assert measured[case.metrics[0].key] > 0


async def test_a_broadcast_reaches_all() -> None:
    assert (await measure(BroadcastCost(3), "loopback"))["rate"] > 0


async def test_a_link_comes_up() -> None:
    assert (await measure(Connect(), "loopback"))["seconds"] > 0


async def test_heartbeats_take_something() -> None:
    measured = await measure(Idle(), "loopback")
    assert measured["cpu"] > 0


async def test_hosts_take_memory() -> None:
    measured = await measure(Memory(8), "loopback")
    assert measured["resident"] >= measured["bare"] > 0


async def test_load_and_a_quiet_channel() -> None:
    measured = await measure(Load("loopback", 1400, CLEAR), "loopback")
    assert 0 < measured["p50"] <= measured["p99"]
    assert measured["sink_end"] > 0


@needs_namespaces
@pytest.mark.parametrize("cut", ["interface-down", "black-hole"])
async def test_a_cut_is_got_over(cut: str) -> None:
    measured = await measure(Failover(cut, "active"), "veth")
    # With that policy every message goes over the other link as well.
    assert measured["lost"] == measured["repeated"] == 0


@pytest.mark.parametrize("peer", [OUR_PEER, BARE_PEER], ids=[OURS, BARE])
async def test_a_message_comes_back(peer: tuple[str, ...]) -> None:
    measured = await measure(Echo(CLEAR), "loopback", peer=peer)
    assert measured["p50"] > 0
    assert measured["cpu"] > 0
    assert measured["lost"] == 0


@needs_namespaces
@pytest.mark.parametrize("contender", [OURS, ENVELOPED])
async def test_aead_beside_the_other_envelope(contender: str) -> None:
    case = AeadThroughput("veth", 1400, AEAD)
    measured = await measure(case, "veth", contender=contender)
    assert measured["source_message"] > 0
    assert measured["sink_message"] > 0


async def test_aead_there_and_back() -> None:
    measured = await measure(AeadRoundTrip("loopback", 64, AEAD), "loopback")
    assert measured["here_cpu"] + measured["there_cpu"] == pytest.approx(measured["cpu"])


@pytest.mark.parametrize("what", Refused)
async def test_what_is_forged_or_recorded_costs_something(what: Refused) -> None:
    measured = await measure(AeadRefused(what, AEAD), "loopback")
    assert measured["cpu"] > 0


async def test_calls_are_counted() -> None:
    ours = await measure(Calls(SEALED), "loopback")
    bare = await measure(Calls(CLEAR), "loopback", peer=BARE_PEER)
    # Heartbeats fall into ours; the others are the same each time.
    assert 0 < ours["own"] < ours["calls"] - ours["trio"]
    assert bare["own"] == 0
    assert bare["calls"] == pytest.approx(BARE_CALLS, rel=0.5)


@pytest.mark.parametrize("what", ["send-many", "arguments", "errors", "mtu", "probes", "rekey"])
async def test_turns_are_watched(what: str) -> None:
    check_turns(await measure(LongTurns(what, scale=0.02), "loopback"))


async def test_turns_in_a_flood_are_watched() -> None:
    measured = await measure(LongTurns("flood", "lz4", scale=0.1), "loopback")
    check_turns(measured)


def check_turns(measured: Measured) -> None:
    assert measured["turns"] >= 3
    assert 0 < measured["p50"] <= measured["p99"] <= measured["longest"]
    assert measured["waited"] <= measured["delayed"] + measured["longest"]


@needs_namespaces
@pytest.mark.parametrize("source", ["own-addresses", "one-address"])
async def test_a_stuck_host_beside_others(source: str) -> None:
    measured = await measure(Isolation(source, "broadcast"), "veth")
    assert 0 < measured["free_p99"] <= measured["free_max"]


async def test_messages_beside_hosts_that_refuse() -> None:
    measured = await measure(RefusingHosts(20), "loopback")
    assert 0 < measured["p50"] <= measured["p99"]
    assert measured["lost"] == 0


async def test_hosts_come_and_go() -> None:
    measured = await measure(AddingHosts(20), "loopback")
    assert measured["added"] > 0
    assert measured["removed"] > 0


@pytest.mark.parametrize(
    "case",
    [
        Natural("async-for", CLEAR),
        Natural("receive", SEALED),
        Natural("send", SEALED),
        Natural("send", CLEAR, beside="tens"),
    ],
    ids=lambda case: case.name,
)
async def test_natural_calls_beside_many_at_once(case: Natural) -> None:
    measured = await measure(case, "loopback")
    assert measured["rate"] > 0
    assert measured["ratio"] == measured["rate"] / measured["many"]


# Streams and requests.


def streaming_peer(contender: str) -> tuple[str, ...]:
    if contender in (OURS, MESSAGES):
        return OUR_PEER
    engine, module = {**PLAIN, **STREAMING}[contender]
    pytest.importorskip(module)
    return (*PYTHON_PEER, engine)


@pytest.mark.parametrize("dressing", [CLEAR, SEALED], ids=lambda dressing: dressing.name)
@pytest.mark.parametrize("contender", [OURS, MESSAGES, *STREAMING])
async def test_a_stream_runs(contender: str, dressing: Dressing) -> None:
    case = StreamThroughput("loopback", dressing)
    peer = streaming_peer(contender)
    measured = await measure(case, "loopback", peer=peer, contender=contender)
    assert measured["bandwidth"] > 0
    assert measured["sink_cpu"] > 0


@needs_namespaces
@pytest.mark.parametrize("policy", ["passive", "active"])
async def test_a_stream_over_two_links(policy: str) -> None:
    measured = await measure(StreamThroughput("veth", SEALED, LinkChoice(2, policy)), "veth")
    assert measured["bandwidth"] > 0


@needs_namespaces
async def test_a_stream_with_loss() -> None:
    # So much that no luck can hide it.
    measured = await measure(StreamLoss(10, CLEAR), "veth")
    assert 0 < measured["bandwidth"] < measured["without"]
    assert measured["ratio"] == measured["bandwidth"] / measured["without"]


@needs_namespaces
@pytest.mark.parametrize("cut", ["interface-down", "black-hole"])
async def test_a_stream_gets_over_a_cut(cut: str) -> None:
    measured = await measure(StreamCut(cut, "passive", CLEAR), "veth")
    assert measured["damaged"] == 0
    assert measured["bandwidth"] > 0
    assert measured["pause"] < 3000


@pytest.mark.parametrize("contender", [OURS, MESSAGES, *STREAMING, "pyzmq"])
async def test_requests_are_answered(contender: str) -> None:
    peer = streaming_peer(contender)
    measured = await measure(
        Requests("loopback", CLEAR), "loopback", peer=peer, contender=contender
    )
    assert measured["rate"] > 0
    assert 0 < measured["p50"] <= measured["p99"]


async def test_messages_are_acknowledged() -> None:
    measured = await measure(Acknowledged("loopback", SEALED), "loopback")
    assert measured["rate"] > 0
    assert measured["alone"] > 0


async def test_a_stream_that_breaks_is_told() -> None:
    bed = Bed({OURS: OUR_PEER}, 0.1)
    with trio.fail_after(PATIENCE):
        async with open_network("loopback") as network, bed.open_pair(OURS, network) as peers:
            source, sink = peers
            # Nobody takes requests there.
            await sink.call("hear", handle=2)
            with pytest.raises(PeerError, match="ask: a request failed: refused by host 2"):
                await source.call("ask", handle=1, to=2)


# Trouble.


async def test_a_case_that_fails_does_not_keep_others_from_being_measured() -> None:
    bed = Bed({OURS: ("false",)}, 0.1)
    output = io.StringIO()
    with trio.fail_after(PATIENCE):
        report = BenchReport(output)
        results = await run_cases([Connect(), Connect()], bed, rounds=1, progress=report)
        report.summarize(results)
    assert "connect failed: " in output.getvalue()
    for result in results:
        assert result.failure is not None
        assert result.failure.startswith(f"{OURS}: a peer ended during the command handle")


async def test_a_peer_says_what_is_wrong() -> None:
    with trio.fail_after(PATIENCE):
        async with open_peer(OUR_PEER) as peer:
            with pytest.raises(PeerError, match="this peer cannot juggle"):
                await peer.call("juggle")
            with pytest.raises(PeerError, match="there is no such handle"):
                await peer.call("up", handle=7)
            await peer.call("handle", id=1)
            with pytest.raises(PeerError, match="no turns are being watched"):
                await peer.call("watched")
            with pytest.raises(PeerError, match="host 9"):
                await peer.call("link", handle=1, host=9, src="127.0.0.1:0", dst="127.0.0.1:9")


async def test_a_folder_without_source_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no C source|needs a compiler"):
        await build(tmp_path, tmp_path)
