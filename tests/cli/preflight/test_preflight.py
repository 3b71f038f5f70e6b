"""``knet-trio preflight`` on three hosts: with what is wrong between them, and with nothing.

The cases run at the same time, each in namespaces of its own, since they wait most of the time.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.cli.preflight.mesh import (
    LIMIT,
    Conf,
    Mesh,
    Running,
    Said,
    finish,
    open_mesh,
    preflight,
    start,
    write_files,
)
from tests.cluster.running_corosync import corosync_missing, running
from tests.interop.conftest import need
from tests.interop.namespaces import namespaces_missing

AT_ONCE: Final = 6
ALPHA, BETA, GAMMA = range(3)
HOSTS: Final = {ALPHA, BETA, GAMMA}

Case = Callable[[Mesh, Path, ExitStack], Awaitable[dict[int, Said]]]


async def healthy(mesh: Mesh, place: Path, _: ExitStack) -> dict[int, Said]:
    return await preflight(mesh, write_files(place, Conf()))


async def bad_network(mesh: Mesh, place: Path, faults: ExitStack) -> dict[int, Said]:
    """A black hole and loss for what alpha sends, and a firewall in front of beta."""
    alpha = mesh.v4(ALPHA, 1)
    hole = f"INPUT -s {alpha} -m length --length 1401: -j DROP"
    loss = f"INPUT -p udp -s {mesh.v4(ALPHA, 0)} -m statistic --mode nth --every 20 --packet 9"
    firewall = f"INPUT -p udp -s {mesh.v4(BETA, 1)} -j DROP"
    faults.enter_context(mesh.rules(GAMMA, hole, firewall))
    faults.enter_context(mesh.rules(BETA, f"{loss} -j DROP"))
    return await preflight(mesh, write_files(place, Conf()))


async def wrong_key(mesh: Mesh, place: Path, _: ExitStack) -> dict[int, Said]:
    return await preflight(mesh, write_files(place, Conf(), gamma=Conf(key=b"x" * 256)))


async def swapped_in_a_file(mesh: Mesh, place: Path, _: ExitStack) -> dict[int, Said]:
    return await preflight(mesh, write_files(place, Conf(), gamma=Conf(swapped=(GAMMA,))))


async def one_does_not_come(mesh: Mesh, place: Path, _: ExitStack) -> dict[int, Said]:
    """Gamma; and the cables of beta are swapped."""
    for link in range(2):
        mesh.plug(BETA, link, 1 - link)
    files = write_files(place, Conf())
    del files[GAMMA]
    return await preflight(mesh, files, "--wait", 5)


async def one_leaves(mesh: Mesh, place: Path, _: ExitStack) -> dict[int, Said]:
    """Alpha and beta, which wait for gamma; Ctrl-C ends alpha, and the others go on at once."""
    files = write_files(place, Conf())
    said: dict[int, Said] = {}

    async def keep(side: int, running: Running) -> None:
        said[side] = await finish(running)

    async with trio.open_nursery() as nursery:
        alpha = await start(mesh, ALPHA, files[ALPHA])
        nursery.start_soon(keep, ALPHA, alpha)
        nursery.start_soon(keep, BETA, await start(mesh, BETA, files[BETA], "--wait", 6))
        while not alpha.errors.read_text().endswith("for gamma\n"):
            assert ALPHA not in said
            await trio.sleep(0.02)
        alpha.interrupt()
    return said


async def corosync_runs(mesh: Mesh, place: Path, faults: ExitStack) -> dict[int, Said]:
    """On alpha, and preflight on alpha and beta."""
    files = write_files(place / "files", Conf())
    faults.enter_context(running(mesh, files[ALPHA].read_text(), place))
    return await preflight(mesh, {side: files[side] for side in (ALPHA, BETA)}, "--wait", 2)


CASES: Final[dict[str, Case]] = {
    case.__name__: case
    # Those that wait longest come first.
    for case in (
        one_leaves,
        one_does_not_come,
        swapped_in_a_file,
        wrong_key,
        bad_network,
        healthy,
        corosync_runs,
    )
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, Said]]:
    """What each host said in each case."""
    need(namespaces_missing())
    found: dict[str, dict[int, Said]] = {}
    cases = dict(CASES)
    if corosync_missing() is not None:
        del cases[corosync_runs.__name__]
    turns = trio.Semaphore(AT_ONCE)

    async def run(name: str, case: Case) -> None:
        async with turns:
            with open_mesh() as mesh, ExitStack() as faults:
                found[name] = await case(mesh, tmp_path_factory.mktemp(name), faults)

    async def run_all() -> None:
        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                for name, case in cases.items():
                    nursery.start_soon(run, name, case)

    trio.run(run_all)
    return found


SaidIn = dict[str, dict[int, Said]]


def agreed(hosts: dict[int, Said], status: int) -> Said:
    """What all of these hosts said: the same, and with that exit status."""
    first = next(iter(hosts.values()))
    for host in hosts.values():
        assert (host.status, host.verdict) == (status, first.verdict), host.errors
    return first


def test_all_is_well(said: SaidIn) -> None:
    assert said["healthy"].keys() == HOSTS
    one = agreed(said["healthy"], 0)
    assert one.json["findings"] == one.json["missing"] == []
    assert one.json["ok"] is True
    # Each host to two others over two links.
    assert len(one.json["links"]) == 12
    assert one.of_links("state") == {"up"}
    assert one.of_links("sent") == {100}
    assert one.of_links("lost") == {0}
    assert one.of_links("path_mtu") == one.of_links("interface_mtu") == {1500}
    assert all(0 < latency < 1 for latency in one.of_links("latency"))


def test_a_bad_network_is_found(said: SaidIn) -> None:
    one = agreed(said["bad_network"], 1)
    findings = {(each["code"], each["where"]): each for each in one.json["findings"]}
    assert findings.keys() == {
        ("mtu-black-hole", "host 1 (alpha) and host 3 (gamma), link 1"),
        ("one-way", "host 2 (beta) and host 3 (gamma), link 1"),
        ("loss", "host 1 (alpha) and host 2 (beta), link 0"),
    }
    texts = {code: each["text"] for (code, _), each in findings.items()}
    assert "packets of 1400 bytes pass and of 1401 do not" in texts["mtu-black-hole"]
    assert "the network card takes 1500" in texts["mtu-black-hole"]
    found = re.search(r"(\d+) of 200 pings were lost", texts["loss"])
    assert found is not None
    assert 4 <= int(found[1]) <= 25
    assert "every 5 ms" in texts["loss"]
    assert "what beta sends does not arrive at gamma" in texts["one-way"]
    assert all(each["severity"] == "fault" and each["remedy"] for each in findings.values())


def only_gamma(hosts: dict[int, Said]) -> list[dict[str, Any]]:
    """What all hosts say is wrong, though gamma cannot speak to the others."""
    assert hosts.keys() == HOSTS
    findings: list[dict[str, Any]] = hosts[ALPHA].json["findings"]
    for host in hosts.values():
        assert (host.status, host.json["findings"]) == (1, findings), host.errors
    states = {(link["from"], link["to"]): link["state"] for link in hosts[BETA].json["links"]}
    assert (states[1, 2], states[2, 3], states[3, 1]) == ("up", "down", "unknown")
    return findings


def test_another_key(said: SaidIn) -> None:
    (finding,) = only_gamma(said["wrong_key"])
    assert (finding["code"], finding["where"]) == ("key-mismatch", "host 3 (gamma)")


def test_links_swapped_in_a_file(said: SaidIn) -> None:
    findings = only_gamma(said["swapped_in_a_file"])
    assert [finding["code"] for finding in findings] == ["link-id-mismatch"] * 4
    assert "link 0 of one host leads to link 1 of the other one" in findings[0]["text"]


def test_one_that_does_not_come(said: SaidIn) -> None:
    assert said["one_does_not_come"].keys() == {ALPHA, BETA}
    one = agreed(said["one_does_not_come"], 3)
    assert one.json["missing"] == [3]
    finding = one.json["findings"][-1]
    assert (finding["code"], finding["where"]) == ("host-missing", "host 3 (gamma)")
    between = {1, 2}
    links = [link for link in one.json["links"] if between == {link["from"], link["to"]}]
    assert [link["state"] for link in links] == ["up"] * 4


def test_cables_swapped(said: SaidIn) -> None:
    """Each link works, since hosts answer for all their addresses, over the other's cable."""
    one = agreed(said["one_does_not_come"], 3)
    assert one.codes == ["link-id-mismatch"] * 2 + ["host-missing"]
    assert "comes in on the network card of link 1 at alpha" in one.json["findings"][0]["text"]


def test_one_that_is_ended(said: SaidIn) -> None:
    hosts = said["one_leaves"]
    assert (hosts[ALPHA].status, hosts[ALPHA].output) == (130, "")
    assert hosts[BETA].status == 3
    assert hosts[BETA].json["missing"] == [1, 3]
    assert hosts[BETA].codes == ["host-left", "host-missing"]


def test_corosync_starts_with_the_same_file(said: SaidIn) -> None:
    """Afterwards. While it runs, preflight says so here, and what it is on other hosts."""
    need(corosync_missing())
    hosts = said["corosync_runs"]
    assert (hosts[ALPHA].status, hosts[ALPHA].output) == (4, "")
    assert "stop corosync first" in hosts[ALPHA].errors
    assert hosts[BETA].status == 3
    missing = hosts[BETA].json["findings"][0]
    assert (missing["code"], missing["where"]) == ("host-missing", "host 1 (alpha)")
    assert "stop corosync on it" in missing["remedy"]
