"""Over to model ``aead``, to another cipher of it, and back, by the hosts themselves."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from knet_trio import CryptoConfig, DropCause, InvalidArgumentError
from knet_trio.cli.rekey import describe_report
from knet_trio.cluster import CryptoNames, get_cluster, load_cluster, open_cluster
from knet_trio.control import connect_control
from knet_trio.control.codec import from_json
from knet_trio.rekeying import HostOutcome, Phase, RekeyError, RekeyReport
from tests.cluster import KEY, PATIENCE
from tests.rekeying.processes import open_hosts
from tests.rekeying.test_serving import Mesh, open_mesh

USUAL: Final = CryptoNames()
GCM: Final = CryptoNames("aes256-gcm", "none", "aead")
SIV: Final = CryptoNames("aes256-gcm-siv", "none", "aead")


def write_names(directory: Path, names: CryptoNames, hosts: range = range(1, 4)) -> None:
    """Have the cluster files of hosts say how the key is used."""
    lines = "\n".join(f'{name} = "{value}"' for name, value in attrs.asdict(names).items())
    for host_id in hosts:
        path = directory / str(host_id) / "lab.toml"
        kept = [
            line
            for line in path.read_text().splitlines()
            if line.partition(" ")[0] not in ("cipher", "hash", "model")
        ]
        path.write_text("\n".join(kept).replace("[cluster]", f"[cluster]\n{lines}", 1) + "\n")


def names_of(mesh: Mesh) -> set[CryptoNames]:
    found = [get_cluster(handle).crypto for handle in mesh.handles.values()]
    return {CryptoNames.of(config) for config in found if config is not None}


def phases_of(report: RekeyReport) -> set[tuple[HostOutcome, Phase | None]]:
    return {(host.outcome, host.phase) for host in report.hosts}


@asynccontextmanager
async def flow(mesh: Mesh) -> AsyncGenerator[None]:
    """All hosts send to each other, and none of it is lost."""
    got: dict[tuple[int, int], list[int]] = {}
    sent = dict.fromkeys(mesh.handles, 0)
    channels = {host_id: handle.open_channel(0) for host_id, handle in mesh.handles.items()}
    before = {host_id: handle.statistics().drops for host_id, handle in mesh.handles.items()}

    async def send(host_id: int) -> None:
        while True:
            with trio.CancelScope(shield=True):
                await channels[host_id].send(sent[host_id].to_bytes(4))
                sent[host_id] += 1
            await trio.sleep(0.01)

    async def receive(host_id: int) -> None:
        async for message in channels[host_id]:
            got.setdefault((message.source, host_id), []).append(int.from_bytes(message.data))

    async with trio.open_nursery() as receivers:
        async with trio.open_nursery() as senders:
            for host_id in channels:
                senders.start_soon(send, host_id)
                receivers.start_soon(receive, host_id)
            yield
            senders.cancel_scope.cancel()
        await trio.sleep(0.5)
        receivers.cancel_scope.cancel()
    for (source, host_id), numbers in got.items():
        assert numbers == list(range(sent[source])), (source, host_id)
    assert len(got) == len(channels) * (len(channels) - 1)
    for host_id, handle in mesh.handles.items():
        drops = handle.statistics().drops
        for cause in (DropCause.UNCONFIRMED, DropCause.DUPLICATE):
            assert drops[cause] == before[host_id][cause], cause


async def test_to_it_between_and_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh, flow(mesh):
        # The files follow when the new key is used, or are first, which no running host minds.
        report = await mesh.services[1].rekey(model="AEAD")
        assert (report.done, report.new_names) == (False, GCM)
        assert phases_of(report) == {(HostOutcome.WAITING, Phase.USE)}
        file = tmp_path / "1" / "lab.toml"
        assert report.hosts[0].reason == (
            f"its cluster file {file} has aes256 and sha256, not model aead and aes256-gcm: write"
            ' model = "aead" into [cluster], without cipher and hash, which follow from the model'
        )
        with pytest.raises(RekeyError, match="to model aead and aes256-gcm is in progress"):
            await mesh.services[1].rekey(model="aead", cipher="chacha20-poly1305")
        write_names(tmp_path, attrs.evolve(GCM, model="aed"))
        again = await mesh.services[1].rekey()
        assert "is not valid: crypto model 'aed' is not known" in again.hosts[0].reason
        # It is recognisably the same key, whoever is asked.
        assert (again.salt, again.fingerprint) == (report.salt, report.fingerprint)
        write_names(tmp_path, GCM)
        report = await mesh.services[2].rekey(model="aead")
        assert (report.done, report.resumed, report.names) == (True, True, GCM)
        assert (again.salt, again.fingerprint) == (report.salt, report.fingerprint)
        assert names_of(mesh) == {GCM}
        for names, asked in ((SIV, {"cipher": SIV.cipher}), (USUAL, {"model": "openssl"})):
            write_names(tmp_path, names)
            reported = await mesh.services[3].answer_control(asked)
            assert isinstance(reported, dict)
            assert (reported["done"], names_of(mesh)) == (True, {names})
        # What runs is what the file says, so that a reload has nothing to do.
        assert load_cluster(tmp_path / "1" / "lab.toml") == get_cluster(mesh.handles[1])
        # And the key alone.
        report = await mesh.services[1].rekey()
        assert (report.done, report.new_names, report.names) == (True, None, USUAL)
        assert report.salt != again.salt


async def test_it_waits_until_all_have_answered_each_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        # Pings under the new key are those of a timer, which does not come to its end here.
        for peer, other in ((2, 3), (3, 2)):
            link = mesh.handles[peer].get_host(other).links[0]
            link.set_ping_timers(600.0, 1200.0, 2048)
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            reports: list[RekeyReport] = []

            async def rekey() -> None:
                reports.append(await mesh.services[1].rekey(model="aead"))

            nursery.start_soon(rekey)
            await trio.sleep(2)
            # Hosts may look on meanwhile, also those that are claimed.
            for service in mesh.services.values():
                seen = await service.status()
                assert seen is not None
                assert (seen.phase, phases_of(seen)) == (
                    Phase.SET,
                    {(HostOutcome.WAITING, Phase.SET)},
                )
            assert not reports
        (report,) = reports
        assert (report.done, report.phase) == (False, Phase.SET)
        assert {host.host_id: host.unconfirmed for host in report.hosts} == {
            1: (),
            2: (3,),
            3: (2,),
        }
        said = "\n".join(describe_report(report))
        assert (
            "host2 (2)  accepts the new key beside the old one: it has no answer from host 3"
            " (host3) under the new key yet: check that links" in said
        )
        assert said.endswith(
            "corrected: knet-trio rekey\nto drop the new key: knet-trio rekey --drop"
        )
        await mesh.services[1].drop()
        assert names_of(mesh) == {USUAL}
        assert {handle.crypto_in_use for handle in mesh.handles.values()} == {1}


async def test_a_host_that_starts_again_knows_how_each_key_is_used(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Whatever its cluster file says meanwhile: the file beside the key counts."""
    async with open_mesh(tmp_path, 3) as mesh:
        await mesh.services[1].rekey(model="aead", cipher="aes256-gcm-siv")
    for names in (USUAL, SIV):
        write_names(tmp_path, names)
        cluster = load_cluster(tmp_path / "2" / "lab.toml")
        assert cluster.crypto is not None
        assert cluster.accept_crypto is not None
        assert CryptoNames.of(cluster.crypto) == SIV
        assert CryptoNames.of(cluster.accept_crypto) == USUAL
        async with open_cluster(cluster, host=2) as handle:
            assert handle.crypto_in_use == 1
    change = mesh.files(2).read_change()
    assert change is not None
    assert "aes256-gcm-siv" in mesh.files(2).change_file.read_text()
    assert change.make_accepted(CryptoConfig(change.new)) == USUAL.make(change.old)


async def test_what_cannot_be(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path, 2, serving={1}) as mesh:
        for wrong, why in (
            ({"cipher": "aes256-gcm"}, "cipher 'aes256-gcm' is not known"),
            ({"model": "aead", "cipher": "aes256"}, "model 'aead' has no cipher 'aes256'"),
            ({"cipher": "aes512"}, "cipher 'aes512' is not known"),
            ({"hash": "sha3"}, "hash 'sha3' is not known; use one of"),
            ({"model": "aed"}, "crypto model 'aed' is not known; use one of openssl, nss"),
            ({"model": ""}, "crypto model '' is not known"),
            ({"model": 1}, "model is not valid: give text"),
            ({"status": True, "hash": "sha1"}, "status begins no change"),
            ({"status": True, "drop": True}, "status changes nothing"),
            ({"model": "aead", "drop": True}, "drop begins no change"),
        ):
            with pytest.raises(InvalidArgumentError, match=why):
                await mesh.services[1].answer_control(wrong)
        with pytest.raises(InvalidArgumentError, match="model is not valid: give text"):
            await mesh.services[1].rekey(model=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        # Not even the hosts were asked.
        assert mesh.files(1).read_change() is None
        assert mesh.files(1).read_key() == KEY[:256]
        with pytest.raises(RekeyError, match="cipher none does not encrypt"):
            await mesh.services[1].rekey(cipher="none")
        report = await mesh.services[1].rekey(model="aead")
        assert report.hosts[1].outcome is HostOutcome.BY_HAND
        assert "if it runs libknet, it cannot use model aead" in report.hosts[1].reason
        # Nor when a change has begun.
        with pytest.raises(InvalidArgumentError, match="crypto model 'aed' is not known"):
            await mesh.services[1].rekey(model="aed")


# Messages a second of all three hosts together.
RATE: Final = float(os.environ.get("KNET_TRIO_AEAD_RATE", "1000"))


async def test_over_udp_under_load_nothing_is_lost(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with open_hosts(tmp_path, 3, rate=RATE / 3) as hosts:
            for names, model in ((GCM, "aead"), (USUAL, "openssl")):
                write_names(tmp_path, names)
                async with connect_control(hosts[1].socket) as client:
                    said = from_json(RekeyReport, await client.request("rekey", model=model))
                assert (said.done, said.new_names) == (True, names), said
            for host in hosts.values():
                for counts in (await host.call("count"))["counts"].values():
                    came, missing = counts
                    assert (came > 100, missing) == (True, 0)
