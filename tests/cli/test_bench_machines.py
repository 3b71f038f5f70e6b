"""The bench between two machines, which are two namespaces here."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner

import knet_trio
from knet_trio.cli.bench.case import Case
from knet_trio.cli.bench.command import bench
from knet_trio.cli.bench.machines import protocol
from knet_trio.cli.bench.machines.cases import make_cases
from knet_trio.cli.bench.machines.client import open_machines
from knet_trio.cli.bench.machines.place import CLIENTS, Place, parse_links, place_client, read_key
from knet_trio.cli.bench.process import BenchError
from knet_trio.cluster import open_cluster
from knet_trio.streams import open_streams
from tests.cli.commands import started
from tests.cluster import PATIENCE, wait_for
from tests.cluster.files import LAB, write_file, write_key
from tests.interop.conftest import need
from tests.interop.namespaces import NamespacePair, namespace_pair, namespaces_missing

QUICK = ("--quick", "--pairs", "1", "--seconds", "0.1")
ROUND_TRIP = ("--case", "roundtrip")
FAILOVER = ("--case", "failover/disabled-there")


@pytest.fixture(scope="module")
def pair() -> Iterator[NamespacePair]:
    """Side 0 is where the server is."""
    need(namespaces_missing())
    with namespace_pair() as made:
        yield made


@attrs.define
class Program:
    """The command in a namespace."""

    process: trio.Process
    rest: bytes = b""

    async def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while b"\n" not in self.rest:
                more = await self.process.stdout.receive_some()
                assert more, await self.errors()
                self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    async def event(self) -> dict[str, Any]:
        """The next line of a server with ``--json``."""
        return dict(json.loads(await self.line()))

    async def errors(self) -> str:
        """All that it says on standard error."""
        assert self.process.stderr is not None
        return b"".join([bytes(part) async for part in self.process.stderr]).decode()

    async def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Its status and the rest of what it says, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        said = [self.rest]
        with trio.fail_after(PATIENCE):
            assert self.process.stdout is not None
            said += [bytes(part) async for part in self.process.stdout]
            errors = await self.errors()
            status = await self.process.wait()
        assert "Traceback" not in errors, errors
        return status, b"".join(said).decode(), errors


@asynccontextmanager
async def program(pair: NamespacePair, side: int, *arguments: object) -> AsyncGenerator[Program]:
    async with started("bench", *arguments, within=pair.within(side)) as process:
        yield Program(process)


def addresses(pair: NamespacePair) -> tuple[str, str]:
    return pair.v4(0, 0), pair.v4(0, 1)


def other_client(pair: NamespacePair, host_id: int, key: Path) -> Place:
    """A client of another id than the one that is served."""
    links = parse_links(addresses(pair), 5405)
    return place_client(links, read_key(key), next(one for one in CLIENTS if one != host_id))


async def test_by_addresses(pair: NamespacePair, tmp_path: Path) -> None:
    first, second = addresses(pair)
    key = write_key(tmp_path / "key")
    tables = tmp_path / "bench.md"
    links = ("--link", second, "--key", key)
    async with program(pair, 0, "--serve", "--link", first, *links, "--json") as server:
        assert (await server.event())["event"] == "serving"

        measuring = (*QUICK, *ROUND_TRIP, *FAILOVER, "--json", "--markdown", tables)
        async with program(pair, 1, first, *links, *measuring) as client:
            begun = await server.event()
            assert begun["event"] == "begun"
            # Another one is told so, and disturbs nobody.
            with pair.inside(1):
                place = other_client(pair, begun["host"], key)
                with pytest.RaisesGroup(
                    pytest.RaisesExc(BenchError, match="busy"), flatten_subgroups=True
                ):
                    async with open_machines(place, place.cluster.hosts[0]):
                        pytest.fail("two at once")
            status, output, errors = await client.end()
        assert status == 0, errors
        assert await server.event() == {
            "event": "ended",
            "host": begun["host"],
            "text": f"client {begun['host']} is done",
        }
        check_result(json.loads(output), tables.read_text())

        # One that vanishes in the middle of a case.
        async with program(pair, 1, first, *links, *FAILOVER, "--quick") as client:
            assert (await server.event())["event"] == "begun"
            while "failover/disabled-there" not in await client.line():
                pass
            client.process.kill()
            gone = await server.event()
            assert (gone["event"], gone["text"][-12:]) == ("ended", "has vanished")

        # One that vanishes while the server sends it a stream.
        sent = sent_bytes(pair)
        async with program(pair, 1, first, *links, "--case", "stream/*/back", "--quick") as client:
            assert (await server.event())["event"] == "begun"
            await wait_for(lambda: sent_bytes(pair) > sent + 5_000_000)
            client.process.kill()
            gone = await server.event()
            assert (gone["event"], gone["text"][-12:]) == ("ended", "has vanished")

        # One of another version.
        with pair.inside(1):
            await check_version(other_client(pair, -1, key))
        assert (await server.event())["event"] == "refused"

        status, _, errors = await server.end(signal.SIGTERM)
        assert (status, errors) == (143, "ended by SIGTERM\n")


def sent_bytes(pair: NamespacePair) -> int:
    """How many bytes the server's side has sent over link 0."""
    return int(pair.run(0, "cat", f"/sys/class/net/{pair.device(0)}/statistics/tx_bytes"))


def check_result(result: dict[str, Any], document: str) -> None:
    assert [case["case"] for case in result["cases"]] == [
        "roundtrip/machines/64/aes256-sha256",
        "failover/disabled-there/passive",
    ]
    assert [case["failure"] for case in result["cases"]] == [None, None]
    trip, failover = (case["metrics"] for case in result["cases"])
    assert 0 < median(trip["p50"]) <= median(trip["p99"])
    assert median(trip["cpu"]) > 0
    assert median(failover["lost"]) > 0
    assert median(failover["pause"]) > 0
    assert result["server"]["machine"]["kernel"] == result["machine"]["kernel"]
    assert len(result["server"]["links"]) == 2
    assert "At the other end" in document
    assert "--case roundtrip" in document


def median(metric: dict[str, Any]) -> float:
    return float(metric["contenders"]["knet_trio"]["median"])


async def check_version(place: Place) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            open_cluster(place.cluster, host=place.me.host_id) as handle,
            open_streams(handle, channel=place.service_channel) as streams,
        ):
            await handle.hosts[1].wait_reachable()
            hello = json.dumps({"bench": 99, "do": "hello", "knet_trio": "7.0"}).encode()
            said = json.loads(await streams.request(1, hello))
    assert "speaks version 99 of the bench's protocol (knet_trio 7.0), this side" in said["error"]
    assert "install the same" in said["error"]


async def test_by_a_cluster_file(pair: NamespacePair, tmp_path: Path) -> None:
    text = LAB.replace('name = "lab"', 'name = "lab"\nservice_channel = 0')
    for side, link in ((0, 0), (0, 1), (1, 0), (1, 1)):
        text = text.replace(f"10.{link}.0.{side + 1}", pair.v4(side, link))
    file = write_file(tmp_path, text)
    async with program(pair, 0, "--serve", "--cluster", file) as server:
        assert (await server.line()).startswith("serving as alpha (10.77.0.1:5405, 10.77.1.1:5406)")
        cases = [("--case", name) for name in ("throughput/machines/65000", "stream", "failover")]
        # A stream needs some time to begin on a busy machine.
        options = (*QUICK, "--seconds", "0.5", *(part for case in cases for part in case))
        async with program(pair, 1, "alpha", "--cluster", file, *options) as client:
            begun = f"beta begins, with knet_trio {knet_trio.__version__}"
            assert await server.line() == begun
            while "failover/" not in await client.line():
                pass
            # It is told at once when the server ends, and shows what it has.
            status, said, errors = await server.end(signal.SIGINT)
            assert (status, errors) == (130, "ended by SIGINT\n")
            assert said == "beta is notified that the server ends\n"
            status, output, errors = await client.end()
        assert (status, errors) == (1, "")
        assert output.count("failed: knet_trio: the server has been ended") == 2
        for case in ("65000/aes256-sha256", "passive/aes256-sha256"):
            assert re.search(rf"machines/{case} +knet_trio +\d", output)
            assert re.search(rf"machines/{case}/back +knet_trio +\d", output)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--serve"], "give the addresses to serve (--link ADDRESS"),
        (["--serve", "10.0.0.1"], "HOST is for the other side"),
        (["10.0.0.1", "--pin"], "--pin is for the bench on one machine"),
        (["--link", "10.0.0.1"], "--link is for the bench between two machines: add HOST"),
        (["10.0.0.1", "--host", "alpha"], "--host is for a cluster file"),
        (["alpha", "--cluster", "FILE", "--key", "lab.key"], "links and key are those of the file"),
        (["10.0.0.1", *(["--link", "10.0.0.2"] * 8)], "a host has 8 links at most"),
        (["127.0.0.1", "--list", "--case", "failover"], "no case fits 'failover'"),
    ],
)
def test_what_does_not_fit(arguments: list[str], said: str, tmp_path: Path) -> None:
    file = write_file(tmp_path, LAB)
    done = CliRunner().invoke(bench, [str(file) if one == "FILE" else one for one in arguments])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gamma", "--cluster", "FILE", "--host", "alpha"], "the file has no host 'gamma'"),
        (["alpha", "--cluster", "FILE", "--host", "1"], "alpha is this host itself"),
        (["alpha", "--cluster", "FILE"], "this machine has no address of a host"),
        (["no.such.invalid"], "neither an address nor a known name"),
        (["127.0.0.1", "--key", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_used_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    file = write_file(tmp_path, LAB)
    done = CliRunner().invoke(bench, [str(file) if one == "FILE" else one for one in arguments])
    assert done.exit_code == 1
    assert said in " ".join(done.output.split())


def test_all_cases_of_two_links() -> None:
    place = place_client(parse_links(["127.0.0.1", "localhost:7000"], 5405), None, 2)
    cases: list[Case] = list(make_cases(place, 2))
    assert [case.name for case in cases] == [
        "throughput/machines/64/clear",
        "throughput/machines/64/clear/back",
        "throughput/machines/1400/clear",
        "throughput/machines/1400/clear/back",
        "throughput/machines/65000/clear",
        "throughput/machines/65000/clear/back",
        "roundtrip/machines/64/clear",
        "stream/throughput/machines/passive/clear",
        "stream/throughput/machines/passive/clear/back",
        "failover/disabled-here/passive",
        "failover/disabled-there/passive",
    ]
    assert [case.contenders for case in cases] == [("knet_trio",)] * len(cases)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\xff", "the other side is not a bench"),
        (b"[]", "the other side is not a bench"),
        (b'{"bench": 2, "knet_trio": "7.0"}', "install the same knet_trio on both"),
    ],
)
def test_what_is_not_understood_is_said(answer: bytes, said: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=said):
        protocol.decode(answer)
