"""A reload that fails, is cancelled or is refused has changed nothing."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from knet_trio import (
    Host,
    InvalidArgumentError,
    KnetError,
    TransportError,
    open_handle,
)
from knet_trio.cluster import (
    Cluster,
    ClusterFileError,
    ReloadError,
    _steps,
    get_cluster,
    load_cluster,
    open_cluster,
    reload,
)
from knet_trio.cluster import _reloading as reloading
from knet_trio.cluster._plan import LinkPlan
from knet_trio.cluster._reloading import take_steps
from knet_trio.cluster._steps import Step, act
from tests.cluster.files import LAB, write_file, write_key
from tests.cluster.meshes import GAMMA, NEW_KEY, SETTINGS, nothing_lost, open_mesh, state
from tests.cluster.test_key_file import check_no_key

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

    async def make_broken_steps(*arguments: object) -> list[Step]:
        steps: list[Step] = await make_steps(*arguments)  # type: ignore[arg-type]
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


async def test_cancelled_at_any_moment_it_has_happened_or_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    write_key(tmp_path / "new.key", NEW_KEY)

    async def cancel(scope: trio.CancelScope, moments: int) -> None:
        for _ in range(moments):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    outcomes: list[bool] = []
    async with open_mesh(tmp_path, LAB + GAMMA) as mesh:
        old, new = (
            mesh.load(text=LAB + GAMMA),
            mesh.load(*EVERYTHING, text=LAB + GAMMA.replace("3", "4").replace("gamma", "delta")),
        )
        before = state(mesh.alpha)
        await reload(mesh.alpha, new)
        after = state(mesh.alpha)
        await reload(mesh.alpha, old)
        for moments in range(60):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(cancel, scope, moments)
                with scope:
                    await reload(mesh.alpha, new)
            outcomes.append(scope.cancelled_caught)
            assert state(mesh.alpha) == (before if scope.cancelled_caught else after)
            await reload(mesh.alpha, old)
            assert state(mesh.alpha) == before
    assert set(outcomes) == {True, False}


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


async def test_a_link_that_cannot_be_put_back_is_said(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the machine has lost the old address, and somebody has the new port."""
    tries: list[str] = []

    async def refuse(host: Host, plan: LinkPlan) -> None:
        await trio.lowlevel.checkpoint()
        tries.append(str(plan.src))
        raise TransportError(f"no room for {plan.src}", errno=errno.EADDRINUSE)

    async with open_mesh(tmp_path) as mesh:
        new = mesh.load(("10.1.0.1", "10.1.0.11"), ("= 0.1\n", "= 0.2\n"))
        with monkeypatch.context() as patch:
            patch.setattr(_steps, "add_planned_link", refuse)
            with pytest.raises(ReloadError) as caught:
                await reload(mesh.alpha, new)
        assert tries == ["10.1.0.11:5406", "10.1.0.1:5406"]
        assert caught.value.reasons == ("hosts.2.links.1: no room for 10.1.0.11:5406",)
        assert caught.value.not_undone == ("hosts.2.links.1: no room for 10.1.0.1:5406",)
        assert "nothing has changed" not in str(caught.value)
        assert "could not be undone" in str(caught.value)
        assert caught.value.errno == errno.EADDRINUSE
        cause = caught.value.__cause__
        assert isinstance(cause, TransportError)
        assert cause.args[0] == "no room for 10.1.0.11:5406"
        check_no_key(caught.value)
        links = mesh.alpha.get_host(2).links
        assert list(links) == [0]
        assert links[0].config.ping_interval == 0.1
        # When there is room, the new version has it.
        await reload(mesh.alpha, new)
        assert sorted(links) == [0, 1]
        assert links[1].config.src == ("10.1.0.11", 5406)


async def test_others_get_their_turns_between_two_steps() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def fail() -> None:
        raise KnetError("out of luck")

    nothing = act(lambda: None)
    steps = [Step("one of many", nothing, nothing)] * 100
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await take_steps(steps)
        assert turns >= 99
        with pytest.raises(ReloadError, match="out of luck"):
            await take_steps([*steps, Step("the last", fail, nothing)])
        assert turns >= 297
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "lab"', "privileged = true", r"cluster\.privileged cannot change while"),
        ('name = "lab"', "log_fd = 1", r"cluster\.log_fd cannot change while"),
        ('name = "lab"', "accept_compression = []", r"cluster\.accept_compression cannot"),
        ("id = 1", "id = 3", "has no host 1, this host"),
        ('name = "lab"', "filter = 'nowhere:function'", "cannot be found"),
        ('name = "lab"', "filter = 'broken:function'", "'broken:function' fails: ZeroDivisionErr"),
    ],
)
async def test_what_cannot_change_is_refused(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    after: str,
    said: str,
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    (tmp_path / "broken.py").write_text("1 / 0\n")
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
        with pytest.raises(ReloadError, match="the program has added a host 3 itself"):
            await reload(mesh.alpha, gamma)
        await mesh.alpha.get_host(3).remove()
        with pytest.raises(ReloadError, match=r"host 9, which .* already has the name 'epsilon'"):
            await reload(mesh.alpha, mesh.load(('"gamma"', '"epsilon"'), text=LAB + GAMMA))
        await mesh.alpha.get_host(2).links[1].remove()
        with pytest.raises(ReloadError, match="the program has removed link 1 to host 2"):
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
        with pytest.raises(InvalidArgumentError, match="has no cluster file"):
            await reload(handle, cluster)
        with pytest.raises(InvalidArgumentError, match="has no cluster file"):
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
