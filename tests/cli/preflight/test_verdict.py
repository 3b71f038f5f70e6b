"""What is made of what the hosts have found, without any network."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from knet_trio.address import Address
from knet_trio.cli.findings import Finding, Severity
from knet_trio.cli.free_channels import choose_service_channel
from knet_trio.cli.looking import OutputConsole
from knet_trio.cli.preflight.command import show
from knet_trio.cli.preflight.host import Plan
from knet_trio.cli.preflight.preparing import list_settings, prepare
from knet_trio.cli.preflight.records import VERSION, HostNews, PreflightPhase, WayReport
from knet_trio.cli.preflight.verdict import Verdict, judge
from knet_trio.cluster import (
    Cluster,
    ClusterChannel,
    ClusterHost,
    ClusterLink,
    ClusterTap,
    HostLink,
)

NAMES: Final = ("alpha", "beta", "gamma", "delta")
LINKS: Final = 2

GOOD: Final = {
    "connected": True,
    "sent": 200,
    "latency": 0.001,
    "latency_p99": 0.002,
    "path_mtu": 1500,
    "pings_sent": 10,
    "pings_heard": 10,
    "pongs_heard": 10,
    "opened": 20,
}
SILENT: Final = {"connected": False, "pings_sent": 10}
SEALED: Final = {**SILENT, "unopened": 10, "differs": "key"}


def address(host_id: int, link_id: int) -> str:
    return f"10.{link_id}.0.{host_id}"


def make_cluster(hosts: int = 3, transport: str = "udp") -> Cluster:
    return Cluster(
        hosts=tuple(
            ClusterHost(
                number,
                NAMES[number - 1],
                tuple(
                    HostLink(link, Address(address(number, link), 5405 + link))
                    for link in range(LINKS)
                ),
            )
            for number in range(1, hosts + 1)
        ),
        links=tuple(ClusterLink(link, 5405 + link, transport) for link in range(LINKS)),
        name="lab",
    )


def make_news(
    hosts: Iterable[int] = (1, 2, 3),
    cluster: Cluster | None = None,
    /,
    **changed: dict[str, Any],
) -> dict[int, HostNews]:
    """What hosts say: all is well, but for `w12_0` and the like: host 1 of link 0 to host 2."""
    cluster = cluster or make_cluster()
    settings = list_settings(cluster)
    news: dict[int, HostNews] = {}
    for host in hosts:
        ways = [
            WayReport(
                host_id=other.host_id,
                link_id=link,
                src=f"{address(host, link)}:{5405 + link}",
                dst=f"{address(other.host_id, link)}:{5405 + link}",
                timeout=1.0,
                own_mtu=1500,
                step=16,
                **changed.get(f"w{host}{other.host_id}_{link}", GOOD),
            )
            for other in cluster.hosts
            if other.host_id != host
            for link in range(LINKS)
        ]
        news[host] = HostNews(
            version=VERSION,
            host_id=host,
            started=1,
            phase=PreflightPhase.DONE.value,
            settings=settings,
            interval=0.01,
            ways=tuple(ways),
        )
    return news


def found(verdict: Verdict) -> list[tuple[str, str]]:
    return [(finding.code, finding.where) for finding in verdict.findings]


def only(verdict: Verdict) -> Finding:
    (finding,) = verdict.findings
    return finding


BETWEEN: Final = "host 1 (alpha) and host 2 (beta), link 0"


def judge_link(one: dict[str, Any], other: dict[str, Any]) -> Finding:
    """The finding about link 0 of hosts 1 and 2, of which they have found these."""
    finding = only(judge(make_cluster(), make_news(w12_0=one, w21_0=other)))
    assert finding.where == BETWEEN
    assert finding.remedy
    return finding


@pytest.mark.parametrize(
    ("one", "code", "words", "advice"),
    [
        ({}, "no-connection", "nothing arrives in either direction", "let SCTP (IP protocol 132)"),
        (
            {"errno": errno.ECONNREFUSED, "trouble": "refused"},
            "no-connection",
            "alpha is refused at 10.0.0.2:5405: no program accepts SCTP",
            "compare transports and ports",
        ),
        (
            {"errno": errno.ENOPROTOOPT, "trouble": "Protocol not available"},
            "no-connection",
            "10.0.0.2:5405 reports to alpha that beta has no SCTP",
            "modprobe sctp",
        ),
        ({"opened": 9}, "one-way", "what beta sends arrives", "let SCTP (IP protocol 132) to"),
    ],
)
def test_a_fault_of_sctp(one: dict[str, Any], code: str, words: str, advice: str) -> None:
    cluster = make_cluster(transport="sctp")
    news = make_news((1, 2, 3), cluster, w12_0={**SILENT, **one}, w21_0=SILENT)
    finding = only(judge(cluster, news))
    assert (finding.severity, finding.code) == (Severity.FAULT, code)
    assert words in finding.text
    assert advice in finding.remedy


def test_nothing_is_wrong() -> None:
    verdict = judge(make_cluster(), make_news())
    assert (verdict.findings, verdict.missing, verdict.status) == ((), (), 0)
    assert {row.state for row in verdict.rows} == {"up"}


@pytest.mark.parametrize(
    ("one", "other", "code", "words"),
    [
        (SILENT, SILENT, "port-filtered", "nothing arrives in either direction"),
        (
            {**SILENT, "errno": errno.EPERM, "trouble": "Operation not permitted"},
            SILENT,
            "port-filtered",
            "alpha gets the error: Operation not permitted",
        ),
        (
            SILENT,
            {**SILENT, "errno": errno.ECONNREFUSED, "trouble": "refused"},
            "port-closed",
            "10.0.0.1:5405 refuses what beta sends",
        ),
        (
            {**SILENT, "errno": errno.EHOSTUNREACH, "trouble": "No route to host"},
            SILENT,
            "host-unreachable",
            "alpha cannot reach 10.0.0.2:5405: No route to host",
        ),
        (
            {
                **SILENT,
                "errno": errno.ENETUNREACH,
                "trouble": "Network is unreachable",
                "local": True,
            },
            SILENT,
            "no-route",
            "alpha cannot reach 10.0.0.2:5405: Network is unreachable",
        ),
        (
            SILENT,
            {**SILENT, "opened": 9, "pings_heard": 9},
            "one-way",
            "what beta sends does not arrive at alpha",
        ),
        (
            {**SILENT, "opened": 9, "late": 9},
            {**SILENT, "opened": 9, "late": 9},
            "latency-timeout",
            "later than after 1.00 s",
        ),
        (
            {**SILENT, "opened": 9, "pings_heard": 5, "pongs_heard": 2},
            {**SILENT, "opened": 9, "pings_heard": 5, "pongs_heard": 1},
            "loss",
            "17 of 20 pings were lost",
        ),
        ({**SILENT, "elsewhere": "10.1.0.2:5405"}, SILENT, "link-id-mismatch", "leads to link 1"),
        (SILENT, {**SILENT, "astray": 1}, "link-id-mismatch", "leads to link 1"),
        (
            {**SILENT, "elsewhere": "10.9.9.9:5405"},
            SILENT,
            "address-mismatch",
            "comes from 10.9.9.9:5405",
        ),
        ({**SILENT, "elsewhere": "10.0.0.2:5999"}, SILENT, "address-mismatch", ":5999"),
        ({**SILENT, "other_id": 3}, SILENT, "host-id-mismatch", "the id of another host"),
        ({**SILENT, "other_link": 3}, SILENT, "link-id-mismatch", "a link that does not exist"),
        (
            {**GOOD, "lost": 6},
            {**GOOD, "lost": 5},
            "loss",
            "11 of 400 pings were lost (2.8%; 6 of 200 from alpha, 5 of 200 from beta), one",
        ),
        ({**GOOD, "latency_p99": 1.5}, GOOD, "latency-timeout", "up to 1.50 s"),
        (
            {**GOOD, "path_mtu": 1388},
            GOOD,
            "mtu-black-hole",
            "packets of 1388 bytes pass and of 1404 do not; the network card takes 1500",
        ),
        ({**GOOD, "arrived_on": 1}, GOOD, "link-id-mismatch", "on the network card of link 1"),
    ],
)
def test_a_fault(one: dict[str, Any], other: dict[str, Any], code: str, words: str) -> None:
    finding = judge_link(one, other)
    assert (finding.severity, finding.code) == (Severity.FAULT, code)
    assert words in finding.text


@pytest.mark.parametrize(
    ("one", "code"),
    [
        ({**GOOD, "lost": 3}, "loss"),
        ({**GOOD, "latency_p99": 0.6}, "latency-timeout"),
        ({**GOOD, "path_mtu": 1388, "told_mtu": 1400}, "mtu-reduced"),
    ],
)
def test_a_warning(one: dict[str, Any], code: str) -> None:
    finding = judge_link(one, GOOD)
    assert (finding.severity, finding.code) == (Severity.WARNING, code)


@pytest.mark.parametrize(
    "one", [{**GOOD, "lost": 1}, {**GOOD, "path_mtu": 1485}, {**SILENT, "enabled": False}]
)
def test_what_is_no_finding(one: dict[str, Any]) -> None:
    assert judge(make_cluster(), make_news(w12_0=one)).findings == ()


def test_an_address_that_is_not_there_is_one_finding() -> None:
    missing = {**SILENT, "has_address": False}
    news = make_news(w31_1=missing, w32_1=missing, w13_1=SILENT, w23_1=SILENT)
    finding = only(judge(make_cluster(), news))
    assert (finding.code, finding.where) == ("address-missing", "host 3 (gamma), link 1")
    assert "10.1.0.3:5406" in finding.text


def test_sides_with_other_names_say_the_same() -> None:
    """Gamma has another cipher: it and the others cannot tell each other anything."""
    there = {**SEALED, "differs": "cipher", "sealed_by": "aes128 and sha256"}
    back = {**SEALED, "differs": "cipher", "sealed_by": "aes256 and sha256"}
    settings = {"crypto": "aes256 and sha256"}
    ways = {f"w{one}3_{link}": there for one in (1, 2) for link in range(LINKS)}
    most = make_news((1, 2), **ways)
    most = {host: attrs.evolve(news, settings=settings) for host, news in most.items()}
    ways = {f"w3{one}_{link}": back for one in (1, 2) for link in range(LINKS)}
    gamma = {3: attrs.evolve(make_news((3,), **ways)[3], settings={"crypto": "aes128 and sha256"})}
    first, second = (judge(make_cluster(), news) for news in (most, gamma))
    assert first.findings == second.findings
    finding = only(first)
    assert (finding.code, finding.where) == ("cipher-mismatch", "host 3 (gamma)")
    assert "gamma uses aes128 and sha256" in finding.text
    assert (first.status, second.status) == (1, 1)


@pytest.mark.parametrize(
    ("differs", "code"),
    [
        ("key", "key-mismatch"),
        ("clear", "crypto-off"),
        ("sealed", "crypto-off"),
        ("hash", "hash-mismatch"),
        ("cipher", "cipher-mismatch"),
    ],
)
def test_two_keys_of_four_hosts(differs: str, code: str) -> None:
    """Of two and two nobody is the odd one, so each pair is named."""
    cluster = make_cluster(4)
    sealed = {**SEALED, "differs": differs}
    ways = {
        f"w{one}{other}_{link}": sealed for one in (1, 2) for other in (3, 4) for link in (0, 1)
    }
    verdict = judge(cluster, make_news((1, 2), cluster, **ways))
    assert {finding.code for finding in verdict.findings} == {code}
    assert len(verdict.findings) == 4
    assert verdict.missing == ()


def test_a_host_that_is_absent() -> None:
    refused = {**SILENT, "errno": errno.ECONNREFUSED, "trouble": "refused"}
    silent = {f"w{one}3_{link}": SILENT for one in (1, 2) for link in (0, 1)}
    for ways, words in (
        (silent, "nothing came from this host"),
        (dict.fromkeys(silent, refused), "nothing listens"),
        ({}, "another program has its port"),
    ):
        verdict = judge(make_cluster(), make_news((1, 2), **ways))
        assert (verdict.missing, verdict.status) == ((3,), 3)
        finding = only(verdict)
        assert (finding.code, finding.where) == ("host-missing", "host 3 (gamma)")
        assert words in finding.text
    verdict = judge(make_cluster(), make_news((1, 2)), left=[3])
    assert (found(verdict), verdict.status) == ([("host-left", "host 3 (gamma)")], 3)


def test_a_host_that_cannot_be_spoken_to_has_come() -> None:
    heard = {**SILENT, "opened": 5, "pings_heard": 5}
    ways = {f"w{one}3_{link}": heard for one in (1, 2) for link in (0, 1)}
    verdict = judge(make_cluster(), make_news((1, 2), **ways))
    assert {finding.code for finding in verdict.findings} == {"one-way"}
    assert (len(verdict.findings), verdict.missing, verdict.status) == (4, (), 1)


@pytest.mark.parametrize(
    ("sign", "code"), [("other_id", "host-id-mismatch"), ("other_link", "link-id-mismatch")]
)
def test_a_host_with_ids_of_its_own_has_come(sign: str, code: str) -> None:
    """Though nothing of it is opened."""
    ways = {f"w{one}3_{link}": {**SILENT, sign: 5} for one in (1, 2) for link in (0, 1)}
    verdict = judge(make_cluster(), make_news((1, 2), **ways))
    assert {finding.code for finding in verdict.findings} == {code}
    assert (len(verdict.findings), verdict.missing, verdict.status) == (4, (), 1)


def test_another_transport_in_a_file() -> None:
    news = make_news((1, 2))
    news.update(make_news((3,), make_cluster(transport="sctp")))
    (finding,) = [
        one for one in judge(make_cluster(), news).findings if one.code == "file-mismatch"
    ]
    assert "link 0 transport is sctp in place of udp" in finding.text


def test_another_file() -> None:
    news = make_news()
    other = {**news[1].settings, "policy": "active", "link 0 pong_timeout": "9.0"}
    news[1] = attrs.evolve(news[1], settings=other)
    finding = only(judge(make_cluster(), news))
    assert (finding.code, finding.where) == ("file-mismatch", "host 1 (alpha)")
    assert "its file differs from that of beta" in finding.text
    assert "policy is active in place of passive" in finding.text


def test_settings_of_the_file_that_cannot_be() -> None:
    cluster = attrs.evolve(make_cluster(), mtu=9000)
    verdict = judge(cluster, make_news((1, 2, 3), cluster))
    assert {code for code, _ in found(verdict)} == {"mtu-setting"}
    filtered = make_news(w12_0=SILENT, w21_0=SILENT)
    filtered[2] = attrs.evolve(filtered[2], filtered=20)
    assert ("reverse-path-filter", "host 2 (beta)") in found(judge(make_cluster(), filtered))


def test_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = make_cluster(2)
    one = {**GOOD, "lost": 20}
    news = make_news((1, 2), cluster, w12_0=one, w12_1=SILENT, w21_1=SILENT)
    show(OutputConsole(no_color=True, highlight=False, width=10_000), cluster, judge(cluster, news))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["FROM", "TO", "LINK", "STATE", "LOST", "LATENCY", "MTU"],
        ["alpha", "(1)", "beta", "(2)", "0", "up", "20", "of", "200", "1.00", "ms", "1500"],
        ["alpha", "(1)", "beta", "(2)", "1", "down", "-", "-", "-"],
    ]
    assert lines[5] == ""
    assert lines[6].startswith(f"fault loss  {BETWEEN}: 20 of 400 pings")
    assert lines[7].startswith("  look for a bad cable")
    assert lines[-1] == "2 findings: 2 hosts, 2 links"


def test_pings_are_many_enough_and_not_too_many() -> None:
    usual = Plan(wait=60, seconds=10)
    assert (usual.find_interval(4), usual.count_pings(4)) == (0.02, 500)
    short = Plan(wait=60, seconds=1)
    assert (short.find_interval(4), short.count_pings(4)) == (0.005, 200)
    # A hundred links: a thousand pings a second over all of them, for longer if need be.
    assert (short.find_interval(100), short.count_pings(100)) == (0.1, 200)


def test_a_file_becomes_one_that_can_be_measured() -> None:
    cluster = attrs.evolve(make_cluster(), mtu=1400, loopback=True)
    ready = prepare(cluster)
    assert (ready.mtu, ready.loopback) == (None, False)
    assert ready.reconnect_interval == 0.5
    assert {(link.ping_interval, link.pong_timeout) for link in ready.links} == {(0.2, 3.0)}
    assert ready.hosts == cluster.hosts
    assert choose_service_channel(cluster) == 31
    assert choose_service_channel(attrs.evolve(cluster, service_channel=7)) == 7
    taken = attrs.evolve(
        cluster, tap=ClusterTap("knet0", 31), channels=(ClusterChannel(30, Path("x")),)
    )
    assert choose_service_channel(taken) == 29
