from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from knet_trio import BusyError
from knet_trio.cli.rekey import describe_report
from knet_trio.cluster import CryptoNames
from knet_trio.control.codec import Json, to_json
from knet_trio.rekeying import HostOutcome, Phase, RekeyedHost, RekeyReport
from tests.cli.commands import run, socket_of
from tests.control.serving import open_served

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def host(host_id: int, name: str, outcome: HostOutcome, **rest: Any) -> RekeyedHost:
    return RekeyedHost(host_id=host_id, name=name, outcome=outcome, **rest)


DONE = RekeyReport(
    done=True,
    change_id="c0ffee",
    began_by=1,
    resumed=False,
    phase=Phase.CLEAR,
    salt="5d0c41aa",
    fingerprint="0b1d 93e2 7741 a8c0 55f1 3c9e",
    names=CryptoNames(),
    hosts=(
        host(1, "alpha", HostOutcome.DONE, phase=Phase.CLEAR),
        host(2, "beta", HostOutcome.DONE, phase=Phase.CLEAR),
        host(3, "gamma", HostOutcome.DONE, phase=Phase.CLEAR),
    ),
)
STOPPED = attrs.evolve(
    DONE,
    done=False,
    phase=None,
    hosts=(
        host(1, "alpha", HostOutcome.WAITING, phase=Phase.SET),
        host(2, "beta", HostOutcome.WAITING, phase=Phase.SET),
        host(3, "gamma", HostOutcome.AWAY, reason="it cannot be reached"),
    ),
)


def test_the_page_shows_what_is_printed() -> None:
    assert "$ knet-trio rekey\n" + "\n".join(describe_report(DONE)) in PAGE
    shown = "\n".join(describe_report(STOPPED)[:5])
    assert "$ knet-trio rekey\n" + shown in PAGE


def test_what_to_do_is_said() -> None:
    said = "\n".join(describe_report(STOPPED))
    assert "when they are back: knet-trio rekey\n" in said
    assert (
        "without them, cut off until they have the key file of another host: knet-trio rekey"
        " --exclude gamma\n"
    ) in said
    # It would not go through with a host that is away.
    assert said.endswith("to drop the new key: knet-trio rekey --drop --exclude gamma")
    assert said in PAGE
    hosts = (
        host(1, "alpha", HostOutcome.WAITING, phase=Phase.USE),
        host(2, "eps", HostOutcome.BY_HAND, reason="it can be reached"),
    )
    said = "\n".join(describe_report(attrs.evolve(STOPPED, resumed=True, hosts=hosts)))
    assert "when that is corrected: knet-trio rekey\n" in said
    assert "this continues the change that host 1 (alpha) began" in said
    assert "alpha (1)  uses the new key, and accepts the old one" in said
    assert "by hand: give eps the new key" in said
    assert "--drop" not in said
    assert "without them: knet-trio rekey --exclude eps" in said
    assert "2 hosts have only the new one, with aes256 and sha256; 1 excluded" in "\n".join(
        describe_report(
            attrs.evolve(DONE, hosts=(*DONE.hosts[:2], host(3, "gamma", HostOutcome.EXCLUDED)))
        )
    )
    aead = CryptoNames("aes256-gcm", "none", "aead")
    alone = attrs.evolve(DONE, hosts=DONE.hosts[:1], names=aead)
    assert describe_report(alone)[0] == (
        "the key is changed: 1 host has only the new one, with model aead and aes256-gcm"
    )
    away = host(2, "two words", HostOutcome.AWAY, reason="it cannot be reached")
    hosts = (STOPPED.hosts[0], away)
    said = "\n".join(describe_report(attrs.evolve(STOPPED, hosts=hosts)))
    assert "knet-trio rekey --exclude 'two words'\n" in said


def advice(*hosts: RekeyedHost, asked: int = 1, status: bool = False) -> list[str]:
    """What is said after the fingerprint."""
    lines = describe_report(attrs.evolve(STOPPED, hosts=hosts), asked, status=status)
    return lines[lines.index(f"fingerprint {STOPPED.fingerprint}") + 2 :]


def test_no_hint_excludes_the_asked_host_or_the_most() -> None:
    alpha, beta, gamma = STOPPED.hosts
    refuses = attrs.evolve(
        alpha, outcome=HostOutcome.REFUSED, phase=None, reason="the disk is full"
    )
    assert advice(refuses, beta, gamma) == [
        "when they are back: knet-trio rekey",
        "to drop the new key: knet-trio rekey --drop --exclude gamma",
    ]
    refuses = attrs.evolve(refuses, phase=Phase.SET)
    # It answers, and has the new key, so that it has to drop it.
    assert advice(refuses, beta, alpha, asked=2)[1:] == [
        (
            "without them, cut off until they have the key file of another host: knet-trio rekey"
            " --exclude alpha"
        ),
        "to drop the new key: knet-trio rekey --drop",
    ]
    away = attrs.evolve(alpha, outcome=HostOutcome.AWAY, phase=None, reason="it cannot be reached")
    assert advice(away, beta, gamma, asked=2) == [
        "when they are back, or now on a host that reaches more of the others: knet-trio rekey"
    ]
    # What was excluded before stays so.
    excluded = host(4, "delta", HostOutcome.EXCLUDED, reason="change its key by hand")
    assert advice(alpha, beta, gamma, excluded) == [
        "when they are back: knet-trio rekey --exclude delta",
        (
            "without them, cut off until they have the key file of another host: knet-trio rekey"
            " --exclude delta --exclude gamma"
        ),
        "to drop the new key: knet-trio rekey --drop --exclude delta --exclude gamma",
    ]


def test_how_far_it_is() -> None:
    alpha, beta, _ = STOPPED.hosts
    assert advice(alpha, beta, status=True) == [
        "to continue it, on any host: knet-trio rekey",
        "to drop the new key: knet-trio rekey --drop",
    ]
    lines = describe_report(STOPPED, 1, status=True)
    assert lines[:3] == [
        "a change of the key, begun by host 1 (alpha), is in progress",
        "",
        "alpha (1)  accepts the new key beside the old one",
    ]
    assert lines[0] in PAGE


def test_what_is_left_where_only_the_files_are_missing() -> None:
    waiting = [
        host(1, "alpha", HostOutcome.WAITING, phase=Phase.USE, reason="its cluster file still ..."),
        host(2, "beta", HostOutcome.WAITING, phase=Phase.USE),
    ]
    names = CryptoNames("aead", "aes256-gcm", "none")
    report = attrs.evolve(STOPPED, hosts=tuple(waiting), new_names=names)
    said = describe_report(report)
    assert said[0] in PAGE
    assert "the new key is in use" in said[0]
    assert said[-1] == "when the files are changed, on any host: knet-trio rekey"
    # Not while something else is missing too, or if the names stay.
    away = host(3, "gamma", HostOutcome.AWAY, reason="it cannot be reached")
    for other in (
        attrs.evolve(report, hosts=(*waiting, away)),
        attrs.evolve(report, new_names=None),
        attrs.evolve(report, hosts=(attrs.evolve(waiting[0], phase=Phase.SET), waiting[1])),
    ):
        assert "is not changed yet" in describe_report(other)[0]


async def test_what_it_asks_for_and_how_it_ends(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    answers: list[RekeyReport | None] = []

    async def rekey(parameters: dict[str, Any]) -> Json:
        asked.append(parameters)
        if not answers:
            raise BusyError("host 2 (beta) is changing the key at this moment")
        answer = answers.pop()
        return None if answer is None else to_json(answer)

    async with open_served(tmp_path, rekey=rekey) as served:
        where = socket_of(served.path)
        answers.append(DONE)
        done = await run("rekey", "--json", "--exclude", "gamma", "--exclude", "4", *where)
        assert (done.status, done.errors) == (0, "")
        assert json.loads(done.output) == to_json(DONE)
        assert asked == [{"exclude": ["gamma", "4"]}]
        answers.append(STOPPED)
        done = await run("rekey", *where)
        assert (done.status, done.output.splitlines()) == (
            1,
            describe_report(STOPPED, 1),
        )
        answers.append(None)
        done = await run("rekey", "--drop", "--exclude", "gamma", "--exclude", "4", *where)
        assert (done.status, done.output) == (
            0,
            (
                "the new key is dropped: all other hosts only have the old one; gamma, 4 were not"
                " asked, and may still accept the new one\n"
            ),
        )
        answers.append(None)
        done = await run("rekey", "--status", *where)
        assert (done.status, asked[-1]) == (0, {"exclude": [], "status": True})
        assert done.output == "no change of the key is in progress\n"
        answers.append(STOPPED)
        done = await run("rekey", "--status", *where)
        assert (done.status, done.output.splitlines()) == (
            1,
            describe_report(STOPPED, 1, status=True),
        )
        answers.append(None)
        done = await run("rekey", "--drop", "--json", *where)
        assert (done.status, done.output, asked[-1]) == (0, "null\n", {"exclude": [], "drop": True})
        done = await run("rekey", *where)
        assert (done.status, done.output) == (2, "")
        assert done.errors == "knet-trio: host 2 (beta) is changing the key at this moment\n"
