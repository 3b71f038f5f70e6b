"""A running handle is brought to another version of its file."""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from knet_trio.cluster import (
    get_cluster,
    open_cluster,
    reload,
)
from tests.cluster import KEY, PATIENCE
from tests.cluster.files import LAB, write_key
from tests.cluster.meshes import GAMMA, NEW_KEY, SETTINGS, nothing_lost, open_mesh


async def test_nothing_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        reloaded = await mesh.change()
        assert reloaded.changes == ()
        assert str(reloaded) == "nothing has changed"


async def test_settings_change_in_place_and_nothing_is_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        links = dict(mesh.alpha.get_host(2).links)
        async with nothing_lost(mesh):
            reloaded = await mesh.change(
                ("[cluster.links]\n", SETTINGS + "[cluster.links]\nlatency_samples = 9\n"),
                ("ping_interval = 0.1", "ping_interval = 0.2\npriority = 4"),
                ("pong_count = 1", "pong_count = 2\n[cluster.link.1]\nenabled = false"),
                ('"beta"', '"delta"'),
            )
        handle = mesh.alpha
        assert handle.allow_clear_traffic
        assert not handle.access_lists
        assert (handle.mtu, handle.pmtud_interval, handle.reconnect_interval) == (1400, 5, 2)
        assert (handle.hedge, handle.dscp) == (False, 10)
        assert handle.get_log_level("link").name == "DEBUG"
        delta = handle.get_host("delta")
        assert delta.policy.value == "active"
        assert dict(delta.links) == links
        assert [link.enabled for link in links.values()] == [True, False]
        config = links[0].config
        assert (config.ping_interval, config.latency_samples) == (0.2, 9)
        assert (config.priority, config.pong_count) == (4, 2)
        said = str(reloaded).split("\n")
        assert "cluster.mtu: added, 1400" in said
        assert "cluster.hedge: false, it was true" in said
        assert "hosts.2.name: delta, it was beta" in said
        assert "hosts.2.links.1.enabled: false, it was true" in said
        # And back again.
        async with nothing_lost(mesh):
            back = await mesh.change()
        assert len(back.changes) == len(reloaded.changes)
        assert handle.mtu is None
        assert handle.get_log_level("link").name == "INFO"
        assert not handle.allow_clear_traffic


async def test_hosts_and_links_come_and_go(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        first = mesh.alpha.get_host(2).links[0]
        async with nothing_lost(mesh):
            reloaded = await mesh.change(
                (', "10.1.0.1"', ""), (', "10.1.0.2"', ', ""'), text=LAB + GAMMA
            )
            await trio.sleep(1)
        assert [str(change) for change in reloaded.changes] == [
            "hosts.2.links.1: removed, it was 10.1.0.1:5406 to 10.1.0.2:5406",
            "hosts.3: added, gamma, 10.0.0.1:5405 to 10.0.0.3:5405",
        ]
        assert mesh.alpha.hosts.keys() == {2, 3}
        assert list(mesh.alpha.get_host(2).links.values()) == [first]
        async with open_cluster(get_cluster(mesh.alpha), host="gamma") as gamma:
            with trio.fail_after(PATIENCE):
                for host in gamma.hosts.values():
                    await host.wait_reachable()
        async with nothing_lost(mesh):
            await mesh.change()
        assert mesh.alpha.hosts.keys() == {2}
        assert mesh.alpha.get_host(2).links.keys() == {0, 1}


async def test_a_link_that_leads_elsewhere_is_replaced(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        first, second = mesh.alpha.get_host(2).links.values()
        async with nothing_lost(mesh):
            reloaded = await mesh.change(("10.1.0.2", "10.1.0.22:7000"))
        assert [change.key for change in reloaded.changes] == ["hosts.2.links.1"]
        links = mesh.alpha.get_host(2).links
        assert links[0] is first
        assert links[1] is not second
        assert links[1].config.dst == ("10.1.0.22", 7000)
        with trio.fail_after(PATIENCE):
            await links[1].wait_connected()


async def test_hosts_that_change_their_names_with_each_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path, LAB + GAMMA) as mesh:
        kept = dict(mesh.alpha.hosts)
        await reload(
            mesh.alpha,
            mesh.load(
                ('"beta"', '"x"'), ('"gamma"', '"beta"'), ('"x"', '"gamma"'), text=LAB + GAMMA
            ),
        )
        assert {host.name: host.host_id for host in kept.values()} == {"gamma": 2, "beta": 3}
        assert dict(mesh.alpha.hosts) == kept
        # A new host has the name of one that goes, and its addresses.
        await reload(mesh.alpha, mesh.load(("id = 2", "id = 5")))
        assert {host.host_id: host.name for host in mesh.alpha.hosts.values()} == {5: "beta"}


async def test_a_new_key_in_three_steps_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    write_key(tmp_path / "new.key", NEW_KEY)
    old, new = ('key_file = "lab.key"', 'key_file = "new.key"')
    async with open_mesh(tmp_path) as mesh:
        async with nothing_lost(mesh):
            for both in (
                (old, f"{old}\naccept_crypto = {{ {new}, cipher = 'aes128' }}"),
                (old, f"{new}\ncipher = 'aes128'\naccept_crypto = {{ {old}, cipher = 'aes256' }}"),
                (old, f"{new}\ncipher = 'aes128'"),
            ):
                await reload(mesh.alpha, mesh.load(both))
                await trio.sleep(1)
                reloaded = await reload(mesh.beta, mesh.load(both))
                await trio.sleep(1)
        assert mesh.alpha.crypto_in_use == mesh.beta.crypto_in_use == 2
        assert "a key with aes256 and sha256" in str(reloaded)
        assert all(host.status.reachable for host in mesh.alpha.hosts.values())


async def test_over_to_model_aead_and_back_in_three_steps_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What the other host has confirmed is not forgotten when a slot comes into use."""
    write_key(tmp_path / "new.key", NEW_KEY)
    old, new = 'key_file = "lab.key"', 'key_file = "new.key"\nmodel = "aead"'
    both = f'{new}\naccept_crypto = {{ {old}, model = "openssl" }}'
    first = f'{old}\naccept_crypto = {{ key_file = "new.key", model = "aead" }}'
    async with open_mesh(tmp_path) as mesh, nothing_lost(mesh):
        peers = mesh.alpha.get_host(2), mesh.beta.get_host(1)
        for step in (first, both, new, both, first, old):
            for handle in (mesh.alpha, mesh.beta):
                await reload(handle, mesh.load((old, step)))
            # Some pings, by which the first step is confirmed.
            await trio.sleep(0.5)
            assert {peer.confirmed(2) for peer in peers} == {step is not old}


async def test_a_key_is_replaced_and_nobody_holds_the_old_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    write_key(tmp_path / "new.key", NEW_KEY)
    async with open_mesh(tmp_path) as mesh:
        config = get_cluster(mesh.alpha).crypto
        assert config is not None
        old = weakref.ref(config)
        del config
        reloaded = await mesh.change(("lab.key", "new.key"))
        (change,) = reloaded.changes
        assert change.key == "cluster.crypto"
        assert change.before == change.after == "a key with aes256 and sha256"
        gc.collect()
        assert old() is None
        with trio.fail_after(PATIENCE):
            await mesh.alpha.get_host(2).wait_reachable()
        # Packets of the old key are nobody's now.
        await mesh.change(('key_file = "lab.key"\n', ""))
        assert mesh.alpha.crypto_in_use == 0
        await mesh.change()
        assert mesh.alpha.crypto_in_use == 1


async def test_no_key_is_logged(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "knet_trio")
    write_key(tmp_path / "new.key", NEW_KEY)
    async with open_mesh(
        tmp_path, LAB.replace("[cluster]", '[cluster]\nlog_level = "debug"')
    ) as mesh:
        await mesh.change(("lab.key", "new.key"))
        await trio.sleep(1)
    assert caplog.records
    for record in caplog.records:
        said = record.getMessage() + repr(record.args)
        for key in (KEY[:256], NEW_KEY):
            assert repr(key[:16])[2:-1] not in said
            assert key[:16].hex() not in said


async def test_what_is_the_programs_is_said(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        text = LAB + "[metrics]\nlisten = '127.0.0.1:9905'\n[tap]\nname = 'knet0'\nchannel = 1\n"
        reloaded = await mesh.change(text=text)
        assert [str(change) for change in reloaded.changes] == [
            "tap: added, name=knet0 channel=1",
            "metrics: added, listen=127.0.0.1:9905",
        ]
