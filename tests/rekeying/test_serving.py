"""Handles on a simulated network change their key, as programs do it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from knet_trio import Handle, InvalidArgumentError, UnknownHostError, open_handle
from knet_trio.cluster import KeyChangeFiles, get_cluster, load_cluster, open_cluster
from knet_trio.control import KeyChangeReport
from knet_trio.control.reports import report_handle
from knet_trio.rekeying import (
    HostOutcome,
    Phase,
    RekeyBusyError,
    RekeyError,
    Rekeying,
    serve_rekeying,
)
from knet_trio.rekeying._service import serve_with
from knet_trio.streams import RefusedError, open_streams
from knet_trio.testing import SimulatedNetwork, open_network
from tests.cluster import KEY
from tests.cluster.files import write_key
from tests.rekeying.model import at_once

HEAD = """\
[cluster]
key_file = "lab.key"
service_channel = 31
[cluster.links]
ping_interval = 0.1
pong_timeout = 1.0
pong_count = 1
"""


@attrs.frozen
class Mesh:
    """Hosts of one file, each with a key file of its own."""

    network: SimulatedNetwork
    directory: Path
    handles: dict[int, Handle]
    services: dict[int, Rekeying]

    def files(self, host_id: int) -> KeyChangeFiles:
        return KeyChangeFiles(self.directory / str(host_id) / "lab.key")


@asynccontextmanager
async def open_mesh(
    directory: Path, count: int = 3, *, serving: set[int] | None = None, text: str = HEAD
) -> AsyncGenerator[Mesh]:
    """Open hosts that reach each other. Those of ``serving`` take part, all if it is None."""
    for host_id in range(1, count + 1):
        text += f'[[hosts]]\nid = {host_id}\nname = "host{host_id}"\n'
        text += f'links = ["10.0.0.{host_id}"]\n'
    async with open_network(1) as network, AsyncExitStack() as stack:
        mesh = Mesh(network, directory, {}, {})
        for host_id in range(1, count + 1):
            own = directory / str(host_id)
            own.mkdir()
            write_key(own / "lab.key")
            (own / "lab.toml").write_text(text)
            opening = open_cluster(load_cluster(own / "lab.toml"), host=host_id)
            handle = mesh.handles[host_id] = await stack.enter_async_context(opening)
            if serving is None or host_id in serving:
                # Without threads, whose work takes no simulated time.
                service = serve_with(handle, 5.0, _files, at_once)
                mesh.services[host_id] = await stack.enter_async_context(service)
        with trio.fail_after(60):
            for handle in mesh.handles.values():
                for host in handle.hosts.values():
                    await host.wait_reachable()
        yield mesh


def _files(cluster: Any) -> KeyChangeFiles:
    return KeyChangeFiles(cluster.key_file)


async def test_nothing_is_lost_and_no_key_is_told(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_mesh(tmp_path) as mesh, trio.open_nursery() as nursery:
        received: dict[tuple[int, int], list[int]] = {}
        channels = {host_id: handle.open_channel(0) for host_id, handle in mesh.handles.items()}
        ends = trio.CancelScope()
        sent = dict.fromkeys(channels, 0)

        async def send(host_id: int) -> None:
            while not ends.cancel_called:
                await channels[host_id].send(sent[host_id].to_bytes(4))
                sent[host_id] += 1
                await trio.sleep(0.001)

        async def receive(host_id: int) -> None:
            async for message in channels[host_id]:
                numbers = received.setdefault((message.source, host_id), [])
                numbers.append(int.from_bytes(message.data))

        for host_id in channels:
            nursery.start_soon(send, host_id)
            nursery.start_soon(receive, host_id)
        reported = await mesh.services[2].answer_control({})
        assert isinstance(reported, dict)
        assert reported["done"] is True
        await trio.sleep(0.2)
        ends.cancel()
        await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    assert min(sent.values()) > 1000
    for (source, _), numbers in received.items():
        assert numbers == list(range(sent[source]))
    assert len(received) == 6
    (new,) = {mesh.files(host_id).read_key() for host_id in mesh.handles}
    logged = f"{caplog.text}{reported}"
    for key in (KEY[:256], new):
        for form in (key.hex(), repr(key)[2:-1]):
            assert form[:40] not in logged
    for handle in mesh.handles.values():
        cluster = get_cluster(handle)
        assert cluster.crypto is not None
        assert (cluster.crypto.key, cluster.accept_crypto, cluster.key_change) == (new, None, None)
        assert sum(handle.statistics().drops.values()) == 0
    # What runs is what the file says, so that a reload has nothing to do.
    assert load_cluster(tmp_path / "1" / "lab.toml") == get_cluster(mesh.handles[1])


async def test_a_host_that_is_away_and_one_that_does_not_answer(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path, 4, serving={1, 2, 3}) as mesh:
        mesh.network.partition(["10.0.0.3"], ["10.0.0.1", "10.0.0.2", "10.0.0.4"])
        report = await mesh.services[1].rekey()
        assert (report.done, report.phase) == (False, None)
        waiting, phase = HostOutcome.WAITING, Phase.SET
        assert [(host.outcome, host.phase) for host in report.hosts] == [
            (waiting, phase),
            (waiting, phase),
            (HostOutcome.AWAY, None),
            (HostOutcome.BY_HAND, None),
        ]
        mesh.network.heal()
        report = await mesh.services[3].rekey(exclude=["host4"])
        assert (report.done, report.resumed, report.began_by) == (True, True, 1)
        assert report.change_id in str(report)
        keys = {mesh.files(host_id).read_key() for host_id in (1, 2, 3)}
        assert len(keys) == 1
        assert mesh.files(4).read_key() == KEY[:256] not in keys
        # Those that changed go on without the one that did not.
        await mesh.handles[1].get_host(4).wait_unreachable()
        assert mesh.handles[1].get_host(3).status.reachable


async def test_of_two_hosts_that_do_it_one_is_told_who_else(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        said: list[str] = []
        done: list[bool] = []

        async def rekey(host_id: int) -> None:
            try:
                done.append((await mesh.services[host_id].rekey()).done)
            except RekeyBusyError as error:
                said.append(str(error))

        async with trio.open_nursery() as nursery:
            for host_id in (2, 3, 3):
                nursery.start_soon(rekey, host_id)
        assert done == [True]
        assert len(said) == 2
        assert all("is changing the key" in one for one in said)


async def test_what_control_asks_for_wrongly(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path, 2) as mesh:
        service = mesh.services[1]
        wrong: list[tuple[dict[str, Any], str]] = [
            (
                {"exclud": []},
                "has no parameter 'exclud': its parameters are exclude, drop, status,",
            ),
            ({"exclude": "host2"}, "give a list of ids and names"),
            ({"exclude": [None]}, "give a list of ids and names"),
            ({"drop": 1}, "drop is not valid: give true or false"),
            ({"status": 1}, "status is not valid: give true or false"),
        ]
        for parameters, why in wrong:
            with pytest.raises(InvalidArgumentError, match=why):
                await service.answer_control(parameters)
        with pytest.raises(UnknownHostError, match="no host 'gamma'"):
            await service.answer_control({"exclude": ["gamma"]})
        with pytest.raises(RekeyError, match="no change of the key is in progress"):
            await service.answer_control({"drop": True})


async def test_drop_takes_it_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path, 3, serving={1, 2}) as mesh:
        assert not (await mesh.services[1].rekey()).done
        assert mesh.files(2).read_change() is not None
        why = "does not answer on channel 31.*nothing has changed: exclude it to drop the new key"
        with pytest.raises(RekeyError, match=why):
            await mesh.services[2].drop()
        assert await mesh.services[2].answer_control({"drop": True, "exclude": [3]}) is None
        for host_id in (1, 2):
            assert mesh.files(host_id).read_change() is None
            assert mesh.files(host_id).read_key() == KEY[:256]


async def test_a_change_that_has_stopped_is_seen(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        assert await mesh.services[1].status() is None
        assert await mesh.services[1].answer_control({"status": True}) is None
        assert report_handle(mesh.handles[1]).key_change is None
        mesh.network.partition(["10.0.0.3"], ["10.0.0.1", "10.0.0.2"])
        stopped = await mesh.services[1].rekey()
        assert not stopped.done
        for host_id in (1, 2):
            assert report_handle(mesh.handles[host_id]).key_change == KeyChangeReport(
                change_id=stopped.change_id,
                began_by=1,
                phase="set",
                cipher="aes256",
                hash="sha256",
                model="openssl",
            )
            seen = await mesh.services[host_id].status()
            assert seen == attrs.evolve(stopped, resumed=True)
        mesh.network.heal()
        await mesh.handles[3].get_host(1).wait_reachable()
        # This host has not begun it, and learns of it.
        seen = await mesh.services[3].status()
        assert seen is not None
        assert [(host.outcome, host.phase) for host in seen.hosts] == [
            (HostOutcome.WAITING, Phase.SET),
            (HostOutcome.WAITING, Phase.SET),
            (HostOutcome.WAITING, None),
        ]
        assert (seen.salt, seen.fingerprint) == (stopped.salt, stopped.fingerprint)
        assert report_handle(mesh.handles[3]).key_change is None
        # No host is claimed by that, and none of them has changed.
        assert mesh.files(3).read_change() is None
        assert (await mesh.services[2].rekey()).done
        assert await mesh.services[3].status() is None
        assert report_handle(mesh.handles[1]).key_change is None


async def test_without_a_service_channel_it_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    text = HEAD.replace("service_channel = 31\n", "")
    async with open_mesh(tmp_path, 2, text=text) as mesh:
        with pytest.raises(RekeyError, match="set service_channel in the cluster file"):
            await mesh.services[1].rekey()


async def test_a_handle_without_a_cluster_file_is_refused() -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="has no cluster file"):
            async with serve_rekeying(handle):
                pytest.fail("it was served")


async def test_nonsense_from_a_host_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path, 2, serving={1}) as mesh:
        async with open_streams(mesh.handles[2], channel=31) as streams:
            for data in (b"", b"nonsense", b'{"knet_trio_rekey":1,"action":"x","run":"a"}'):
                with pytest.raises(RefusedError):
                    await streams.request(1, data)
        assert mesh.files(1).read_change() is None
