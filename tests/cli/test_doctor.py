"""What the doctor concludes, and how it says that. The faults are made in tests/network."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from knet_trio import CryptoFault, HandleDiagnosis, LinkDiagnosis, LinkTrouble, open_handle
from knet_trio.cli.doctor.evidence import Evidence, Snapshot
from knet_trio.cli.doctor.judging import judge, not_answering
from knet_trio.cli.doctor.machine import (
    NetworkCard,
    list_interfaces,
    read_steal,
    share_of_steal,
)
from knet_trio.cli.doctor.watching import LEAST_SECONDS, MOST_SECONDS, choose_seconds
from knet_trio.cli.findings import FindingCode, Severity
from knet_trio.cli.link_table import is_open_to_anybody
from knet_trio.control import KeyChangeReport, LinkReport, LoopReport, serve_control
from tests.cli.commands import run, socket_of
from tests.cli.reports import down, handle, host, link
from tests.cluster import LOCALHOST, PATIENCE, open_pair
from tests.control.serving import open_client
from tests.kernel import kernel_has_sctp

LOOP = LoopReport(seconds=3.0, looks=150, late=0.0, longest=0.001)


async def healthy(directory: Path) -> tuple[HandleDiagnosis, LinkDiagnosis]:
    """Of a handle and a link with which nothing is wrong."""
    async with open_client(directory) as (_, client):
        return await client.diagnose(), await client.diagnose_link(1, 0)


async def evidence(directory: Path, *changes: dict[str, Any]) -> Evidence:
    """A host with a link for each of these changes of its diagnosis."""
    whole, one = await healthy(directory)
    report = handle(host(2, *(link(number) for number in range(len(changes)))))

    def snapshot(at: float) -> Snapshot:
        links = {
            (2, number): attrs.evolve(one, **{"at": at, **each})
            for number, each in enumerate(changes)
        }
        return Snapshot(report=report, handle=whole, links=links, counters={})

    return Evidence(seconds=3.0, before=snapshot(157.0), after=snapshot(160.0), pings={}, loop=LOOP)


async def test_an_error_while_the_link_is_up(tmp_path: Path) -> None:
    trouble = LinkTrouble(
        at=159.0, errno=errno.ECONNREFUSED, local=False, text="the network says no"
    )
    (finding, rest) = judge(await evidence(tmp_path, {"trouble": trouble}))
    assert (finding.severity, finding.code) == (Severity.WARNING, FindingCode.PATH_ERRORS)
    assert rest.severity is Severity.OK


async def test_links_of_one_socket_say_once_that_it_is_small(tmp_path: Path) -> None:
    small = {"small_buffers": "the receive buffer is small"}
    hole = {"path_mtu": 1300, "lost_size": 1301}
    found = judge(await evidence(tmp_path, small, small, hole, hole))
    codes = [one.code for one in found if one.severity is not Severity.OK]
    assert sorted(codes) == ["buffers-small", "mtu-black-hole", "mtu-black-hole"]
    # The worst first.
    assert found[0].severity is Severity.FAULT


REFUSED = "cannot connect to 10.0.0.2:5405: Connection refused"


@pytest.mark.parametrize(
    ("changes", "says", "advises"),
    [
        (
            {"connection_fault": "no answer yet", "peer_connected": False},
            "there is no connection to 10.0.0.2:5405, nor from it: no answer yet",
            "rules for UDP and TCP do not let through) from 10.0.0.1 to 10.0.0.2:5405 through",
        ),
        (
            {"connection_fault": "no answer yet", "peer_connected": True, "ping_last": 159.5},
            "10.0.0.2:5405 has connected to this host, and its pings arrive; this host cannot",
            "from 10.0.0.1 to 10.0.0.2:5405 through all firewalls",
        ),
        (
            {"connection_fault": "no answer yet", "peer_connected": True, "ping_last": 120.0},
            "there is no connection to 10.0.0.2:5405, and no ping arrives over the one that 10",
            "check whether that machine is up",
        ),
        (
            {"peer_connected": False},
            "there is a connection to 10.0.0.2:5405, but none from it to 10.0.0.1:5405, which",
            "from 10.0.0.2 to 10.0.0.1:5405 through all firewalls",
        ),
        (
            {"connection_fault": REFUSED, "errno": errno.ECONNREFUSED},
            "that machine is up, but no program accepts SCTP at that",
            'that has transport "sctp" too, and compare the ports on both sides; ss -l -n --sctp',
        ),
        (
            {"connection_fault": "Protocol not available", "errno": errno.ENOPROTOOPT},
            "that machine has no SCTP",
            "modprobe sctp",
        ),
    ],
)
async def test_a_link_without_a_connection(
    tmp_path: Path, changes: dict[str, Any], says: str, advises: str
) -> None:
    number = changes.pop("errno", 0)
    if number:
        words = changes["connection_fault"]
        changes["trouble"] = LinkTrouble(at=159.0, errno=number, local=False, text=words)
    seen = await evidence(tmp_path, changes)
    report = handle(host(2, down(transport="sctp", connected=False)))
    before, after = (attrs.evolve(one, report=report) for one in (seen.before, seen.after))
    finding = judge(attrs.evolve(seen, before=before, after=after))[0]
    assert (finding.severity, finding.code) == (Severity.FAULT, FindingCode.NO_CONNECTION)
    assert says in finding.text
    assert advises in finding.remedy


async def test_connections_over_which_nothing_comes(tmp_path: Path) -> None:
    seen = await evidence(tmp_path, {"peer_connected": True})
    report = handle(host(2, down(transport="sctp", connected=False)))
    before, after = (attrs.evolve(one, report=report) for one in (seen.before, seen.after))
    finding = judge(attrs.evolve(seen, before=before, after=after))[0]
    assert (finding.severity, finding.code) == (Severity.FAULT, FindingCode.PEER_SILENT)
    assert "firewall" not in finding.remedy


@pytest.mark.skipif(not kernel_has_sctp(), reason="this kernel has no SCTP")
async def test_no_program_accepts_a_link_over_sctp(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_handle(1) as a, serve_control(a, path):
        link = await a.add_host(2).add_link(
            0, (LOCALHOST, 0), ("127.0.0.2", 5405), transport="sctp", ping_interval=0.1
        )
        with trio.fail_after(PATIENCE):
            while link.diagnose().trouble is None:  # noqa: ASYNC110  # no event tells of it
                await trio.sleep(0.01)
        done = await run("doctor", "--seconds", 0.5, "--json", *socket_of(path))
    assert done.status == 1
    finding = json.loads(done.output)["findings"][0]
    assert finding["code"] == FindingCode.NO_CONNECTION
    assert "Connection refused: that machine is up, but no program accepts SCTP" in finding["text"]


NOT_SEALED = CryptoFault(
    at=158.0, source="10.0.0.2:5405", differs="clear", cipher=None, hash=None, datagram=""
)


def with_link(seen: Evidence, report: LinkReport) -> Evidence:
    """The same, of a host with another link."""
    before, after = (
        attrs.evolve(one, report=attrs.evolve(one.report, hosts=(host(2, report),)))
        for one in (seen.before, seen.after)
    )
    return attrs.evolve(seen, before=before, after=after)


async def test_packets_that_are_refused_no_longer_are_no_fault(tmp_path: Path) -> None:
    """They are named with their age, beside the present reason of the silence."""
    present = await evidence(tmp_path, {"crypto_fault": NOT_SEALED})
    finding, *_ = judge(with_link(present, down()))
    assert (finding.severity, finding.code) == (Severity.FAULT, FindingCode.CRYPTO_OFF)
    assert finding.text.startswith("packets from 10.0.0.2:5405 are not sealed")
    past = {"crypto_fault": attrs.evolve(NOT_SEALED, at=156.0)}
    refused = LinkTrouble(at=159.0, errno=errno.ECONNREFUSED, local=False, text="refused there")
    seen = await evidence(tmp_path, {**past, "trouble": refused})
    fault, warning, *_ = judge(with_link(seen, down()))
    assert (fault.severity, fault.code) == (Severity.FAULT, FindingCode.PORT_CLOSED)
    assert (warning.severity, warning.code) == (Severity.WARNING, FindingCode.CRYPTO_OFF)
    assert warning.text.startswith("until 4 s ago, and not while this command watched: packets")
    assert warning.remedy.startswith("if it happens again: set the key")
    # A link that is up again is well.
    assert all(one.severity is Severity.OK for one in judge(await evidence(tmp_path, past)))


async def test_a_short_look_between_two_packets_finds_the_fault(tmp_path: Path) -> None:
    past = {"crypto_fault": attrs.evolve(NOT_SEALED, at=156.0)}
    seen = with_link(await evidence(tmp_path, past), down(ping_interval=2.0))
    assert judge(seen)[0].severity is Severity.FAULT


@pytest.mark.parametrize(
    ("interfaces", "says", "advises"),
    [
        (
            {"10.0.0.1": NetworkCard("eth0", False)},
            "; eth0, which has 10.0.0.1, is down",
            "eth0 up",
        ),
        (
            {"10.0.0.9": NetworkCard("eth0", True)},
            "; no interface of this machine has",
            "give this",
        ),
        ({"10.0.0.1": NetworkCard("eth0", True)}, "no way", "check whether 10.0.0.1 is"),
        ({}, "no way", "a route to 10.0.0.2 (ip address"),
    ],
)
async def test_why_this_machine_cannot_send(
    tmp_path: Path, interfaces: dict[str, NetworkCard], says: str, advises: str
) -> None:
    trouble = LinkTrouble(at=159.0, errno=errno.ENETUNREACH, local=True, text="no way")
    seen = with_link(await evidence(tmp_path, {"trouble": trouble}), down())
    finding = judge(attrs.evolve(seen, interfaces=interfaces))[0]
    assert finding.code == FindingCode.NO_ROUTE
    assert says in finding.text
    assert advises in finding.remedy
    assert "5405" not in finding.text + finding.remedy


def test_the_interfaces_are_those_of_the_namespace_of_the_program() -> None:
    assert list_interfaces(os.getpid())["127.0.0.1"] == NetworkCard("lo", True)
    # No process has this id.
    assert list_interfaces(0) == {}


def test_the_steal_is_a_share_of_the_time() -> None:
    stolen, total = read_steal()
    assert 0 <= stolen < total
    assert share_of_steal((10, 1000), (20, 1100)) == 0.1
    assert share_of_steal((0, 0), (0, 0)) == 0.0


@pytest.mark.parametrize("is_service", [False, True])
async def test_an_administrator_gets_no_advice_for_programmers(
    tmp_path: Path, is_service: bool
) -> None:
    seen = await evidence(tmp_path, {})
    late = attrs.evolve(LOOP, late=0.6)
    seen = attrs.evolve(seen, loop=late, stolen=0.12, is_service=is_service)
    finding = judge(seen)[0]
    assert (finding.severity, finding.code) == (Severity.WARNING, FindingCode.CPU_STARVED)
    assert "or this virtual machine was paused" in finding.text
    assert "took 12% of its time (steal)" in finding.text
    assert finding.remedy.startswith("give this virtual machine more processor time")
    assert ("trio" in finding.remedy) is not is_service
    assert ("waits for a disk" in finding.remedy) is is_service


async def test_without_a_key_others_may_be_members(tmp_path: Path) -> None:
    seen = await evidence(tmp_path, {})
    clear = attrs.evolve(seen.after, report=attrs.evolve(seen.after.report, encrypted=False))
    finding = judge(attrs.evolve(seen, after=clear))[0]
    assert (finding.severity, finding.code) == (Severity.WARNING, FindingCode.NOT_ENCRYPTED)
    local = handle(host(2, link(src="[::1]:5405"), link(1, src="127.0.0.1:5406")), encrypted=False)
    assert not is_open_to_anybody(local)


async def test_without_links_only_the_program_is_judged(tmp_path: Path) -> None:
    (finding,) = judge(await evidence(tmp_path))
    assert finding.code is FindingCode.PROGRAM_OK


async def test_a_change_of_the_key_that_goes_on_is_no_warning(tmp_path: Path) -> None:
    seen = await evidence(tmp_path)
    change = KeyChangeReport(
        change_id="c0ffee", began_by=2, phase="set", cipher="aes256", hash="sha256", model="openssl"
    )

    def with_changes(*changes: KeyChangeReport | None) -> Evidence:
        before, after = (
            attrs.evolve(one, report=attrs.evolve(one.report, key_change=of))
            for one, of in zip((seen.before, seen.after), changes, strict=True)
        )
        return attrs.evolve(seen, before=before, after=after)

    for changes in ((None, change), (change, None), (change, attrs.evolve(change, change_id="b"))):
        (finding,) = judge(with_changes(*changes))
        assert finding.code is FindingCode.PROGRAM_OK
    (finding,) = judge(with_changes(change, attrs.evolve(change, phase="use")))
    assert (finding.severity, finding.code) == (Severity.WARNING, FindingCode.REKEY_UNFINISHED)


def test_it_looks_longer_where_links_ping_seldom() -> None:
    assert choose_seconds(handle()) == LEAST_SECONDS
    assert choose_seconds(handle(host(2, link(ping_interval=2.0)))) == 5.0
    assert choose_seconds(handle(host(2, down(ping_interval=600.0)))) == MOST_SECONDS


def test_a_program_that_does_not_answer_has_a_fault() -> None:
    (finding,) = not_answering(30.0)
    assert (finding.severity, finding.code) == (Severity.FAULT, FindingCode.CPU_STARVED)


@pytest.mark.parametrize("as_json", [False, True])
async def test_it_says_what_to_do(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "a.sock"
    async with open_pair() as pair, serve_control(pair.a, path):
        await pair.a.set_forwarding(False)
        json_too = ["--json"] if as_json else []
        done = await run("doctor", "--seconds", 0.5, *json_too, *socket_of(path))
    assert (done.status, done.errors) == (4, "")
    if as_json:
        said = json.loads(done.output)
        assert said["ok"] is False
        first = said["findings"][0]
        assert list(first) == ["severity", "code", "where", "text", "remedy"]
        assert (first["severity"], first["code"]) == ("warning", "forwarding-off")
    else:
        lines = done.output.splitlines()
        assert lines[0].startswith("warning  forwarding-off  messages are neither")
        assert lines[1].startswith("         await handle.set_forwarding(True)")
        assert lines[-1] == "0 faults, 1 warning"
        assert "\x1b" not in done.output
