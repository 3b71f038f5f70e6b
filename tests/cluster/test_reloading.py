"""A running handle is brought to another version of its file."""

from __future__ import annotations

import gc
import logging
import os
import socket
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from knet_trio import (
    Broadcast,
    FilterPacket,
    FilterResult,
    Handle,
    InvalidArgumentError,
    KnetError,
    TransportError,
    open_handle,
)
from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    Reloaded,
    ReloadError,
    get_cluster,
    load_cluster,
    open_cluster,
    reload,
)
from knet_trio.cluster import _reloading as reloading
from knet_trio.cluster._steps import Step
from knet_trio.testing import open_network
from tests.cluster import KEY, PATIENCE
from tests.cluster.files import LAB, write_file, write_key
from tests.cluster.test_key_file import check_no_key

NEW_KEY = KEY[:256][::-1]
GAMMA = '[[hosts]]\nid = 3\nname = "gamma"\nlinks = ["10.0.0.3", "10.1.0.3"]\n'


def passes(packet: FilterPacket) -> FilterResult:
    """A filter that a file can name."""
    return Broadcast(packet.channel)


@attrs.frozen
class Mesh:
    """Two hosts of a file on a simulated network, and the directory that the file is in."""

    alpha: Handle
    beta: Handle
    directory: Path

    def load(self, *changes: tuple[str, str], text: str = LAB) -> Cluster:
        """The file with these changes of its text."""
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        return load_cluster(write_file(self.directory, text))

    async def change(self, *changes: tuple[str, str], text: str = LAB) -> Reloaded:
        """Bring both hosts to the file with these changes; what alpha says of it."""
        cluster = self.load(*changes, text=text)
        reloaded = await reload(self.alpha, cluster)
        await reload(self.beta, cluster)
        return reloaded


@asynccontextmanager
async def open_mesh(directory: Path, text: str = LAB) -> AsyncGenerator[Mesh]:
    path = write_file(directory, text)
    async with (
        open_network(1),
        open_cluster(path, host=1) as alpha,
        open_cluster(path, host=2) as beta,
    ):
        with trio.fail_after(PATIENCE):
            for handle in (alpha, beta):
                for host in handle.hosts.values():
                    if host.host_id != 3:
                        await host.wait_reachable()
        yield Mesh(alpha, beta, directory)


@asynccontextmanager
async def nothing_lost(mesh: Mesh, *, pause: float = 0.01) -> AsyncGenerator[None]:
    """Send from alpha to beta in the block, and see that all of it arrives, in order."""
    inbox, outbox = mesh.beta.open_channel(0), mesh.alpha.open_channel(0)
    sent = 0

    async def send(scope: trio.CancelScope) -> None:
        nonlocal sent
        while not scope.cancel_called:
            await outbox.send(sent.to_bytes(4, "big"))
            sent += 1
            await trio.sleep(pause)

    received: list[int] = []

    async def receive() -> None:
        while True:
            received.append(int.from_bytes((await inbox.receive()).data, "big"))

    async with trio.open_nursery() as nursery:
        ends = trio.CancelScope()
        nursery.start_soon(receive)
        nursery.start_soon(send, ends)
        await trio.sleep(1)
        yield
        await trio.sleep(1)
        ends.cancel()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    inbox.close()
    outbox.close()
    assert sent > 150
    assert received == list(range(sent))


async def test_nothing_to_do(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        reloaded = await mesh.change()
        assert reloaded.changes == ()
        assert str(reloaded) == "nothing has changed"


SETTINGS = """\
allow_clear_traffic = true
access_lists = false
mtu = 1400
pmtud_interval = 5
reconnect_interval = 2
hedge = false
dscp = 10
log_level = "debug"
compress = { model = "zlib" }
policy = "active"
filter = "tests.cluster.test_reloading:passes"
"""


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


# All or nothing.


def state(handle: Handle) -> object:
    """All that a reload could change, but for links that were down for a moment."""
    names = (
        *("allow_clear_traffic", "access_lists", "mtu", "pmtud_interval", "reconnect_interval"),
        *("hedge", "dscp", "forwarding"),
    )
    hosts = {
        host.host_id: (
            host.name,
            host.policy,
            {
                link.link_id: (link.config, link.enabled, list(link.acl))
                for link in host.links.values()
            },
        )
        for host in handle.hosts.values()
    }
    settings = [getattr(handle, name) for name in names]
    return settings, hosts, handle.get_log_level("link"), get_cluster(handle)


EVERYTHING = [
    ("[cluster.links]\n", SETTINGS + "[cluster.links]\nlatency_samples = 9\n"),
    ("ping_interval = 0.1", "ping_interval = 0.2\npriority = 4"),
    ("pong_count = 1", "pong_count = 2\n[cluster.link.1]\nhigh_priority = true"),
    (
        '"alpha"\nlinks = ["10.0.0.1", "10.1.0.1"]',
        '"alpha"\nlinks = ["10.0.0.1", "10.1.0.1", "10.2.0.1"]',
    ),
    ('"10.0.0.2", "10.1.0.2"]', '"10.0.0.2", "10.1.0.2", "10.2.0.2"]'),
    ('"lab.key"', '"new.key"'),
]
# How many steps lead from the one file to the other, at the least.
STEPS = 18


@pytest.mark.parametrize(
    ("number", "way"),
    [
        *product(range(STEPS), ["error"]),
        # They go the same way from there on.
        *product((0, STEPS // 2, STEPS - 1), ["cancelled", "bug"]),
    ],
)
async def test_each_step_that_fails_undoes_all(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    way: str,
) -> None:
    write_key(tmp_path / "new.key", NEW_KEY)
    make_steps = reloading.make_steps
    scope = trio.CancelScope()

    async def fail() -> None:
        if way == "error":
            raise KnetError("out of luck", errno=5)
        if way == "bug":
            raise ZeroDivisionError
        scope.cancel()
        await trio.lowlevel.checkpoint()

    def make_broken_steps(*arguments: object) -> list[Step]:
        steps: list[Step] = make_steps(*arguments)  # type: ignore[arg-type]
        assert len(steps) >= STEPS
        steps[number] = attrs.evolve(steps[number], do=fail)
        return steps

    async with open_mesh(tmp_path, LAB + GAMMA) as mesh:
        before = state(mesh.alpha)
        hosts = dict(mesh.alpha.hosts)
        new = mesh.load(*EVERYTHING, text=LAB + GAMMA.replace("3", "4").replace("gamma", "delta"))
        monkeypatch.setattr(reloading, "make_steps", make_broken_steps)
        async with nothing_lost(mesh):
            if way == "error":
                with pytest.raises(ReloadError, match="out of luck; nothing has changed") as caught:
                    await reload(mesh.alpha, new)
                assert caught.value.errno == 5
                check_no_key(caught.value)
            elif way == "bug":
                with pytest.raises(ZeroDivisionError):
                    await reload(mesh.alpha, new)
            else:
                with scope:
                    await reload(mesh.alpha, new)
                assert scope.cancelled_caught
            assert state(mesh.alpha) == before
            assert dict(mesh.alpha.hosts) == hosts
        monkeypatch.setattr(reloading, "make_steps", make_steps)
        reloaded = await reload(mesh.alpha, new)
        assert len(reloaded.changes) > STEPS
        assert state(mesh.alpha) != before


async def test_an_address_that_is_taken_undoes_all(tmp_path: Path) -> None:
    """For once on real sockets: the link that was to be replaced is there again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        text = LAB.replace("10.0.0.1", "127.0.0.1:0".replace(":0", f":{port + 1}"))
        text = text.replace("10.0.0.2", f"127.0.0.2:{port + 1}")
        for link, host in (("10.1.0.1", "127.0.0.1"), ("10.1.0.2", "127.0.0.2")):
            text = text.replace(link, f"{host}:{port + 2}")
        async with open_cluster(write_file(tmp_path, text), host=1) as handle:
            before, descriptors = state(handle), len(os.listdir("/proc/self/fd"))
            new = load_cluster(write_file(tmp_path, text.replace(f"1:{port + 2}", f"1:{port}")))
            with pytest.raises(ReloadError, match=r"hosts\.2\.links\.1: .*in use") as caught:
                await reload(handle, new)
            assert isinstance(caught.value.__cause__, TransportError)
            check_no_key(caught.value)
            assert state(handle) == before
            assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "lab"', "privileged = true", r"cluster\.privileged cannot change while"),
        ('name = "lab"', "log_fd = 1", r"cluster\.log_fd cannot change while"),
        ('name = "lab"', "accept_compression = []", r"cluster\.accept_compression cannot"),
        ("id = 1", "id = 3", "has no host 1, which this one is"),
        ('name = "lab"', "filter = 'nowhere:function'", "cannot be found"),
    ],
)
async def test_what_cannot_change_is_refused(
    tmp_path: Path, autojump_clock: MockClock, before: str, after: str, said: str
) -> None:
    async with open_mesh(tmp_path) as mesh:
        unchanged = state(mesh.alpha)
        with pytest.raises(ReloadError, match=said):
            await reload(mesh.alpha, mesh.load((before, after), ("= 0.1\n", "= 0.2\n")))
        assert state(mesh.alpha) == unchanged


async def test_hosts_and_links_that_the_program_added_or_removed(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        mesh.alpha.add_host(3)
        mesh.alpha.add_host(9, name="epsilon")
        gamma = mesh.load(text=LAB + GAMMA)
        with pytest.raises(ReloadError, match="host 3 is there already: the program added it"):
            await reload(mesh.alpha, gamma)
        await mesh.alpha.get_host(3).remove()
        with pytest.raises(ReloadError, match="'epsilon' is taken by host 9"):
            await reload(mesh.alpha, mesh.load(('"gamma"', '"epsilon"'), text=LAB + GAMMA))
        await mesh.alpha.get_host(2).links[1].remove()
        with pytest.raises(ReloadError, match="link 1 to host 2 is not there any more"):
            await reload(mesh.alpha, mesh.load(("pong_count = 1", "pong_count = 2")))
        assert mesh.alpha.get_host(2).links[0].pong_count == 1
        # What is removed twice is gone.
        await reload(mesh.alpha, mesh.load((', "10.1.0.2"', "")))
        assert mesh.alpha.hosts.keys() == {2, 9}


async def test_the_file_may_be_given_by_its_path(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_mesh(tmp_path) as mesh:
        path = write_file(tmp_path, LAB.replace("= 1.0", "= 3"))
        assert len((await reload(mesh.alpha, path)).changes) == 2
        write_file(tmp_path, LAB.replace("= 1.0", "= -3"))
        before = state(mesh.alpha)
        with pytest.raises(ClusterFileError, match="pong_timeout -3"):
            await reload(mesh.alpha, path)
        assert state(mesh.alpha) == before


async def test_only_a_handle_of_a_file_can_be_reloaded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    cluster = load_cluster(write_file(tmp_path, LAB))
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="runs no cluster file"):
            await reload(handle, cluster)
        with pytest.raises(InvalidArgumentError, match="runs no cluster file"):
            get_cluster(handle)


async def test_two_reloads_come_one_after_the_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_mesh(tmp_path) as mesh:
        changes: list[Callable[[], Cluster]] = [
            lambda: mesh.load(text=LAB + GAMMA),
            lambda: mesh.load(("10.1.0.2", "10.1.0.22"), text=LAB + GAMMA),
            lambda: mesh.load(),
        ]
        async with trio.open_nursery() as nursery:
            for change in changes:
                nursery.start_soon(reload, mesh.alpha, change())
        # Whichever was the last, what runs is one of them as a whole.
        running = get_cluster(mesh.alpha)
        assert running in [change() for change in changes]
        assert mesh.alpha.hosts.keys() == {host.host_id for host in running.hosts} - {1}
