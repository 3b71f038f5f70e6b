"""What a program that serves its handle answers, over a real socket."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from knet_trio import (
    DefragBuffers,
    DropCause,
    Handle,
    Host,
    InvalidArgumentError,
    Link,
    LinkCause,
    LinkPolicy,
    LinkStatistics,
    open_handle,
)
from knet_trio.control import (
    ControlRequestError,
    HostReport,
    LinkReport,
    connect_control,
    serve_control,
)
from knet_trio.control.codec import Json
from knet_trio.control.protocol import METHODS
from knet_trio.control.settings import SETTINGS
from tests.cluster import LOCALHOST, PATIENCE, open_pair, wait_for
from tests.control.serving import Served, open_client, open_raw, open_served


async def refusal(call: Any) -> ControlRequestError:
    with pytest.raises(ControlRequestError) as caught:
        await call
    return caught.value


async def test_the_status_has_the_handle_its_hosts_and_links(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair(links=2) as pair, serve_control(pair.a, path):
        host = pair.a.hosts[2]
        host.links[1].priority = 7
        await wait_for(lambda: host.links[1].status.mtu == 65481)
        async with connect_control(path) as client:
            status = await client.status()
            assert (status.host_id, status.forwarding, status.mtu) == (1, True, None)
            assert status.data_mtu == pair.a.data_mtu
            assert abs(status.time - time.time()) < PATIENCE
            (report,) = status.hosts
            assert attrs.evolve(report, links=()) == HostReport(
                host_id=2, name="2", policy="passive", reachable=True, links=()
            )
            assert [link.link_id for link in report.links] == [0, 1]
            # The one with the higher priority.
            assert [link.in_use for link in report.links] == [False, True]
            compare(report.links[1], host.links[1])
            host.policy = LinkPolicy.ACTIVE
            host.links[0].enabled = False
            (report,) = (await client.status()).hosts
            assert [link.in_use for link in report.links] == [False, True]
            assert report.links[0].reason == "it was disabled here"
            host.links[0].enabled = True
            await host.links[0].wait_connected()
            (report,) = (await client.status()).hosts
            assert [link.in_use for link in report.links] == [True, True]


def compare(report: LinkReport, link: Link) -> None:
    """A report has what the link itself says."""
    status, config = link.status, link.config
    assert report.src == str(config.src)
    assert report.dst == f"{status.dst_ipaddr}:{status.dst_port}"
    for name in ("enabled", "connected", "carries_data", "reason", "since", "mtu"):
        assert getattr(report, name) == getattr(status, name)
    for name in ("transport", "priority", "ping_interval", "pong_timeout", "pong_count"):
        assert getattr(report, name) == getattr(config, name)
    assert report.since < report.at
    assert report.latency_p50 is not None
    assert 0 < report.tx_total_packets <= status.stats.tx_total_packets
    assert not report.dynamic


async def test_a_status_without_hosts_and_one_with_many(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with (
        open_handle(7) as handle,
        serve_control(handle, path),
        connect_control(path) as client,
    ):
        assert (await client.status()).hosts == ()
        for host_id in range(1000, 1400):
            host = handle.add_host(host_id, name=f"name {host_id}")
            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), enabled=False)
        (await handle.hosts[1000].add_link(1, (LOCALHOST, 0))).enabled = False
        hosts = (await client.status()).hosts
        assert [host.host_id for host in hosts] == list(range(1000, 1400))
        assert hosts[0].links[1].dst is None
        assert hosts[0].links[1].dynamic


async def test_metrics(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with open_pair(links=2) as pair, serve_control(pair.a, path):
        pair.a.open_channel(5)
        pair.a.hosts[2].links[1].enabled = False
        async with connect_control(path) as client:
            metrics = await client.metrics()
    assert metrics.host_id == 1
    assert metrics.latency_bounds == LinkStatistics.LATENCY_BOUNDS
    assert list(metrics.drops) == list(DropCause)
    assert metrics.channel_queues == {"5": 0}
    (host,) = metrics.hosts
    assert (host.host_id, host.name, host.reachable) == (2, "2", True)
    assert [(link.link_id, link.enabled, link.connected) for link in host.links] == [
        (0, True, True),
        (1, False, False),
    ]
    for link in host.links:
        buckets = link.stats.latency_buckets
        assert len(buckets) == len(metrics.latency_bounds) + 1
        assert sum(buckets) >= link.stats.latency_samples > 0
        assert link.stats.latency_total > 0
    assert host.links[1].stats.transitions[LinkCause.DISABLED] == 1


async def test_metrics_of_many_hosts(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with (
        open_handle(7) as handle,
        serve_control(handle, path),
        connect_control(path) as client,
    ):
        assert (await client.metrics()).hosts == ()
        for host_id in range(1000, 1040):
            host = handle.add_host(host_id)
            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), enabled=False)
        hosts = (await client.metrics()).hosts
        assert [host.host_id for host in hosts] == list(range(1000, 1040))


async def test_statistics(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client):
        assert await client.statistics() == served.handle.statistics()
        assert await client.link_statistics("me", 0) == served.link.status.stats
        error = await refusal(client.request("statistics", host=1))
        assert error.code == "refused"
        assert "host 1 has no counters of its own" in error.reason


async def test_explanations_are_the_library_s(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client):
        assert await client.explain() == served.handle.explain()
        assert await client.explain(1) == served.handle.hosts[1].explain()
        assert await client.explain("me", 0) == served.link.explain()
        assert "give the host too" in (await refusal(client.explain(link=0))).reason


async def test_history(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client):
        served.link.enabled = False
        changes = (await client.history(1, 0)).changes
        assert [(change.at, change.connected, change.reason) for change in changes] == [
            tuple(transition) for transition in served.link.history
        ]
        assert all(abs(change.time - time.time()) < PATIENCE for change in changes)


async def test_ping(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    async with (
        open_pair(links=2) as pair,
        serve_control(pair.a, path),
        connect_control(path) as client,
    ):
        answer = await client.ping("2")
        assert (answer.host_id, answer.name) == (2, "2")
        assert [link.link_id for link in answer.links] == [0, 1]
        assert [link.in_use for link in answer.links] == [True, False]
        for link in answer.links:
            assert link.seconds is not None
            assert 0 < link.seconds < PATIENCE
        pair.a.hosts[2].links[0].enabled = False
        (only,) = (await client.ping(2, 0)).links
        assert (only.seconds, only.connected, only.in_use) == (None, False, False)
        assert only.reason == "it was disabled here"


async def test_what_is_not_there_is_said_by_the_library(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (served, client):
        with pytest.raises(LookupError) as expected:
            served.handle.get_host("nobody")
        for call in (client.ping("nobody"), client.explain("nobody"), client.history("nobody", 0)):
            error = await refusal(call)
            assert (error.code, error.reason) == ("refused", str(expected.value))
        said = "host 1 has no link 5; of those it has: 0"
        assert said in (await refusal(client.ping(1, 5))).reason
        assert said in (await refusal(client.set("priority", 1, host=1, link=5))).reason


# Settings.

VALUES: dict[str, tuple[Json, Json]] = {
    "forwarding": (False, 1),
    "access_lists": (False, "no"),
    "allow_clear_traffic": (False, 1),
    "hedge": (False, None),
    "dscp": (17, 64),
    "mtu": (1400, 100),
    "pmtud_interval": (5.0, 0.5),
    "reconnect_interval": (5.0, 0),
    "timer_resolution": (0.5, -1),
    "defrag_buffers": ({"minimum": 8, "maximum": 16}, {"maximum": 1}),
    "compress": (
        {"model": "zlib", "level": 3, "threshold": 50},
        {"model": "gzip", "level": None, "threshold": 0},
    ),
    "log_level": ({"subsystem": "link", "level": "debug"}, {"subsystem": "x", "level": "debug"}),
    "name": ("somebody", ""),
    "policy": ("active", "aggressive"),
    "enabled": (False, 0),
    "priority": (9, 256),
    "pong_count": (9, 0),
    "ping_interval": (0.5, 0),
    "pong_timeout": (5.0, 0),
    "latency_samples": (7, 0),
}


def test_every_setting_is_tried() -> None:
    assert list(VALUES) == list(SETTINGS)


@pytest.mark.parametrize("kind", [Handle, Host, Link])
def test_everything_that_a_program_can_set_can_be_set_from_outside(
    kind: type[Handle | Host | Link],
) -> None:
    settable = {
        name
        for name in dir(kind)
        if isinstance(found := getattr(kind, name), property) and found.fset is not None
    }
    assert settable <= {name for name, setting in SETTINGS.items() if setting.of is kind}


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_setting_is_changed_or_refused_in_the_library_s_words(
    tmp_path: Path, name: str
) -> None:
    value, wrong = VALUES[name]
    setting = SETTINGS[name]
    async with open_client(tmp_path) as (served, client):
        host = None if setting.of is Handle else 1
        link = 0 if setting.of is Link else None
        before = described(served)
        error = await refusal(client.set(name, wrong, host=host, link=link))
        assert error.code == "refused"
        assert error.reason.endswith(("[EINVAL]", "[ENOSYS]"))
        assert described(served) == before
        assert await client.set(name, value, host=host, link=link) == value
        if name not in ("compress", "log_level"):
            target: Any = {Handle: served.handle, Host: served.handle.hosts[1], Link: served.link}[
                setting.of
            ]
            now = getattr(target if hasattr(target, name) else target.config, name)
            assert plain(now) == value


def plain(now: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(now, LinkPolicy):
        return now.value
    return attrs.asdict(now) if isinstance(now, DefragBuffers) else now


def described(served: Served) -> tuple[object, ...]:
    handle, host, link = served.handle, served.handle.hosts[1], served.link
    return (
        *(getattr(handle, name) for name in ("forwarding", "hedge", "dscp", "mtu")),
        *(getattr(handle, name) for name in ("access_lists", "pmtud_interval", "defrag_buffers")),
        host.name,
        host.policy,
        link.config,
        link.enabled,
    )


async def test_a_setting_belongs_to_something(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (_, client):
        for call, said in (
            (
                client.set("priority", 1),
                "no setting 'priority': its settings are forwarding",
            ),
            (
                client.set("mtu", 1, host=1),
                "a host has no setting 'mtu': its settings are name",
            ),
            (
                client.set("x", 1, host=1, link=0),
                "no setting 'x': its settings are enabled",
            ),
            (client.set("compress", "lz4"), "compress is an object"),
            (client.set("compress", {"level": 1}), "model is required"),
            (client.set("compress", {"model": "lz4", "l": 1}), "model, level, threshold"),
            (client.set("log_level", {"level": "debug"}), "subsystem and level"),
        ):
            assert said in (await refusal(call)).reason


# What is the program's own.


async def test_without_callbacks_it_says_so(tmp_path: Path) -> None:
    async with open_client(tmp_path) as (_, client):
        for name, call in (("rekey", client.rekey()), ("reload", client.reload())):
            error = await refusal(call)
            assert error.code == "not_served"
            assert f"its call of serve_control has no {name}=" in error.reason
            assert name not in client.hello.methods


async def test_callbacks_get_the_parameters_and_answer(tmp_path: Path) -> None:
    async def rekey(parameters: dict[str, Any]) -> Json:
        await trio.lowlevel.checkpoint()
        return {"given": parameters}

    async def reload(parameters: dict[str, Any]) -> Json:
        await trio.lowlevel.checkpoint()
        raise InvalidArgumentError(f"line 7: no such key {parameters['key']}")

    async with open_client(tmp_path, rekey=rekey, reload=reload) as (_, client):
        assert {"rekey", "reload"} <= set(client.hello.methods) <= set(METHODS)
        assert await client.rekey(exclude=[3]) == {"given": {"exclude": [3]}}
        error = await refusal(client.reload(key="x"))
        assert (error.code, error.reason) == ("refused", "line 7: no such key x [EINVAL]")


async def test_a_callback_goes_on_when_its_client_has_gone(tmp_path: Path) -> None:
    begun, go_on, done = trio.Event(), trio.Event(), trio.Event()

    async def rekey(parameters: dict[str, Any]) -> Json:
        begun.set()
        await go_on.wait()
        done.set()
        return None

    async with open_served(tmp_path, rekey=rekey) as served:
        async with open_raw(served.path) as client:
            await client.send({"id": 1, "method": "rekey"})
            await begun.wait()
        go_on.set()
        await done.wait()


async def test_a_bug_in_a_callback_leaves_the_block(tmp_path: Path) -> None:
    async def rekey(parameters: dict[str, Any]) -> Json:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        async with open_served(tmp_path, rekey=rekey) as served:
            async with open_raw(served.path) as client:
                assert await client.ask({"id": 1, "method": "rekey"}) is None
            await trio.sleep_forever()


# The connection.


async def test_who_sends_nothing_more_still_gets_the_answers(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        await client.send({"id": 1, "method": "explain"}, {"id": "two", "method": "status"})
        await client.stream.send_eof()
        answers = {(await client.receive())["id"] for _ in range(2)}
        assert answers == {1, "two"}
        assert await client.receive() is None


async def test_answers_and_events_are_told_apart(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served, open_raw(served.path) as client:
        assert await client.ask({"id": 1, "method": "events"}) == {"id": 1, "result": None}
        change = {"name": "enabled", "value": False, "host": 1, "link": 0}
        await client.send({"id": 2, "method": "set", "params": change})
        lines = [await client.receive() for _ in range(3)]
        assert {"id": 2, "result": False} in lines
        events = [line for line in lines if "event" in line]
        assert [event["event"] for event in events] == ["link", "host"]
        assert all("id" not in event for event in events)


async def test_a_slow_answer_holds_up_no_other(tmp_path: Path) -> None:
    async def rekey(parameters: dict[str, Any]) -> Json:
        await trio.sleep_forever()

    async with open_client(tmp_path, rekey=rekey) as (_, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.rekey)
        assert (await client.status()).host_id == 1
        nursery.cancel_scope.cancel()


async def test_who_serves_twice_at_one_path_is_told(tmp_path: Path) -> None:
    async with open_served(tmp_path) as served:
        with pytest.raises(Exception, match="whether this host is running already") as caught:
            async with serve_control(served.handle, served.path):
                pytest.fail("it was served")
        assert type(caught.value).__name__ == "ControlSocketError"
        async with connect_control(served.path) as client:
            assert (await client.status()).host_id == 1
