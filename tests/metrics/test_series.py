"""What is told of a handle is what ``SERIES`` has, and docs/metrics.md, and it is true."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from knet_trio import CryptoConfig, DropCause, LinkCause, LinkStatistics, open_handle
from knet_trio.control.reports import report_host
from knet_trio.metrics import SERIES, make_classic_text, make_families, make_openmetrics_text
from knet_trio.metrics.collector import measure
from knet_trio.metrics.series import DIRECTIONS, KINDS, REASONS
from knet_trio.streams import HostStream, get_stream_statistics, open_streams
from tests.cluster import KEY, LOCALHOST, Pair, open_pair, wait_for
from tests.metrics.scraping import samples, value

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
NAMES = [
    "knet_link_up",
    "knet_link_enabled",
    "knet_link_mtu_bytes",
    "knet_link_rtt_seconds",
    "knet_link_loss_ratio",
    "knet_link_transitions_total",
    "knet_link_packets_total",
    "knet_link_bytes_total",
    "knet_host_reachable",
    "knet_host_confirmed",
    "knet_drops_total",
    "knet_channel_queue",
    "knet_stream_open",
    "knet_stream_rtt_seconds",
    "knet_stream_window_bytes",
    "knet_stream_packets_total",
]


def table(heading: str) -> list[str]:
    """The rows of the table that begins so."""
    _, found, rest = PAGE.partition(f"\n| {heading} |\n")
    assert found, heading
    return re.findall(r"^\| (.*) \|$", rest.partition("\n\n")[0], re.MULTILINE)[1:]


def test_names_are_kept() -> None:
    """Whoever has a board or a rule relies on them."""
    assert [one.name for one in SERIES] == NAMES


def test_the_documentation_has_every_series() -> None:
    assert table("series | type | labels | what it says") == [
        f"`{one.name}` | {one.kind} | {' '.join(f'`{label}`' for label in one.labels)}"
        f" | {one.meaning}"
        for one in SERIES
    ]


def test_the_documentation_has_every_reason() -> None:
    rows = [row.split(" | ")[:2] for row in table("`reason` | `to` | when")]
    assert rows == [[f"`{reason}`", f"`{to}`"] for reason, to in REASONS.items()]
    assert set(LinkCause) - set(REASONS) == {LinkCause.REMOVED}


def test_the_documentation_has_the_bounds() -> None:
    said = re.search(r"`knet_link_rtt_seconds` end at ([\d., and]*) ms", PAGE)
    assert said is not None
    numbers = [float(number) for number in re.findall(r"[\d.]+", said[1])]
    assert numbers == [round(1000 * bound, 3) for bound in LinkStatistics.LATENCY_BOUNDS]


def test_the_documentation_has_directions_and_kinds() -> None:
    for name in (*DIRECTIONS, *KINDS):
        assert f"`{name}`" in PAGE


def test_families_are_those_of_the_series() -> None:
    families = make_families(None)
    assert [(family.type, family.documentation, family.samples) for family in families] == [
        (one.kind, one.meaning, []) for one in SERIES
    ]
    # prometheus-client adds the end of a counter's name itself.
    assert [family.name for family in families] == [
        one.name.removesuffix("_total") for one in SERIES
    ]


@asynccontextmanager
async def open_exchange(pair: Pair) -> AsyncGenerator[HostStream]:
    """A stream from a to b over channel 7, on which something has gone both ways."""
    async with (
        open_streams(pair.a, channel=7) as near,
        open_streams(pair.b, channel=7) as far,
        far.listener() as listener,
        await near.connect(2) as stream,
        await listener.accept() as other,
    ):
        for one, another in ((stream, other), (other, stream)):
            await one.send_all(b"something")
            assert await another.receive_some() == b"something"
        yield stream


async def test_streams_are_measured() -> None:
    async with open_pair() as pair, open_exchange(pair):
        text = make_classic_text(await measure(pair.a)).decode()
        labels = {"host": "2", "host_name": "2", "channel": "7"}
        assert value(text, "knet_stream_open", **labels) == 1
        assert 0 < value(text, "knet_stream_rtt_seconds", **labels) < 10
        assert value(text, "knet_stream_window_bytes", **labels) > 1000
        assert value(text, "knet_stream_packets_total", **labels, outcome="arrived") > 0
        for outcome in ("lost", "late"):
            assert value(text, "knet_stream_packets_total", **labels, outcome=outcome) >= 0
        (streams,) = report_host(pair.a, pair.a.hosts[2]).streams
        assert streams.rate is not None
        assert streams.round_trip is not None
        assert streams.rate == streams.window / streams.round_trip
        (measured,) = get_stream_statistics(pair.b, 1)
        assert (measured.channel, measured.host_id, measured.open) == (7, 1, 1)
    async with open_pair() as pair:
        assert get_stream_statistics(pair.a, 2) == ()


async def test_every_sample_has_the_labels_of_its_series() -> None:
    async with open_pair(crypto=CryptoConfig(KEY, model="aead")) as pair, open_exchange(pair):
        pair.a.open_channel(3)
        await wait_for(lambda: pair.a.hosts[2].links[0].status.loss is not None)
        families = make_families(await measure(pair.a))
        for one, family in zip(SERIES, families, strict=True):
            assert family.samples, one.name
            for sample in family.samples:
                assert sample.name.startswith(one.name)
                more = {"le"} if sample.name.endswith("_bucket") else set[str]()
                assert set(sample.labels) == {*one.labels, *more}


async def test_values_are_those_of_the_handle() -> None:
    async with open_pair(links=2) as pair:
        host = pair.a.hosts[2]
        host.name = "beta"
        channel = pair.a.open_channel(1)
        pair.b.open_channel(1)
        # Until it is known of all links, the message goes in several packets.
        await wait_for(lambda: all(one.status.mtu == 65481 for one in host.links.values()))
        await channel.send(b"x" * 1000)
        await wait_for(lambda: pair.b.channel_queues == {1: 1})
        host.links[1].enabled = False
        metrics = await measure(pair.a)
        text = make_classic_text(metrics).decode()
        link = {"host": "2", "host_name": "beta", "link": "0"}
        off = {**link, "link": "1"}
        assert value(text, "knet_link_up", **link) == 1
        assert value(text, "knet_link_up", **off) == value(text, "knet_link_enabled", **off) == 0
        assert value(text, "knet_link_mtu_bytes", **link) == 65481
        assert value(text, "knet_host_reachable", host="2", host_name="beta") == 1
        stats = metrics.hosts[0].links[0].stats
        assert value(text, "knet_link_rtt_seconds_sum", **link) == stats.latency_total > 0
        count = value(text, "knet_link_rtt_seconds_count", **link)
        assert count == value(text, "knet_link_rtt_seconds_bucket", **link, le="+Inf")
        assert count == sum(stats.latency_buckets) > 0
        quick = value(text, "knet_link_rtt_seconds_bucket", **link, le="5e-05")
        assert quick == stats.latency_buckets[0]
        sent = {**link, "direction": "tx", "kind": "data"}
        assert value(text, "knet_link_packets_total", **sent) == 1
        assert value(text, "knet_link_bytes_total", **sent) == 1014
        pongs = {**link, "direction": "rx", "kind": "pong"}
        assert value(text, "knet_link_packets_total", **pongs) == stats.rx_pong_packets > 0
        up = {**off, "to": "up", "reason": "answered"}
        assert value(text, "knet_link_transitions_total", **up) == 1
        down = {**off, "to": "down", "reason": "disabled"}
        assert value(text, "knet_link_transitions_total", **down) == 1
        waiting = make_classic_text(await measure(pair.b)).decode()
        assert value(waiting, "knet_channel_queue", channel="1") == 1


async def test_who_has_answered_under_which_key() -> None:
    async with open_pair() as pair:

        async def confirmed(slot: int, drops: int = 0) -> float | None:
            text = make_classic_text(await measure(pair.a)).decode()
            assert value(text, "knet_drops_total", cause="unconfirmed") == drops
            labels = {"host": "2", "host_name": "2", "slot": str(slot)}
            found = samples(text).get(("knet_host_confirmed", frozenset(labels.items())))
            return None if found is None else float(found)

        for slot, key in ((1, KEY), (2, KEY[::-1])):
            assert await confirmed(slot) is None
            pair.a.set_crypto(CryptoConfig(key, model="aead"), slot)
            assert await confirmed(slot) == 0
        pair.b.set_crypto(CryptoConfig(KEY[::-1], model="aead"), 2)
        await wait_for(lambda: pair.a.hosts[2].confirmed(2))
        assert (await confirmed(1), await confirmed(2)) == (0, 1)
        assert report_host(pair.a, pair.a.hosts[2]).confirmed == {"1": False, "2": True}


async def test_what_never_happened_is_there_with_0() -> None:
    async with open_handle(1) as handle:
        text = make_classic_text(await measure(handle)).decode()
        for cause in DropCause:
            assert value(text, "knet_drops_total", cause=cause) == 0
        host = handle.add_host(2)
        await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), enabled=False)
        found = samples(make_classic_text(await measure(handle)).decode())
        counts = {
            (labels["to"], labels["reason"]): count
            for (name, items), count in found.items()
            if name == "knet_link_transitions_total"
            for labels in [dict(items)]
        }
        assert counts == {(to, reason): 0 for reason, to in REASONS.items()}
        # There was no ping, so nothing is known of the loss.
        assert not any(name == "knet_link_loss_ratio" for name, _ in found)


async def test_a_removed_link_has_no_series() -> None:
    async with open_handle(1) as handle:
        link = await handle.add_host(2).add_link(0, (LOCALHOST, 0), (LOCALHOST, 1))
        await link.remove()
        assert b"knet_link_up{" not in make_classic_text(await measure(handle))
        await handle.hosts[2].remove()
        assert b"knet_host_reachable{" not in make_classic_text(await measure(handle))


async def test_measuring_looks_for_cancellation_and_lets_others_run() -> None:
    async with open_handle(1) as handle:
        for host_id in range(2, 22):
            host = handle.add_host(host_id)
            await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), enabled=False)
        turns = 0

        async def count(task_status: trio.TaskStatus[None]) -> None:
            nonlocal turns
            task_status.started()
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            await nursery.start(count)
            metrics = await measure(handle)
            nursery.cancel_scope.cancel()
        assert len(metrics.hosts) == 20
        assert turns >= 4
        with trio.CancelScope() as scope:
            scope.cancel()
            await measure(handle)
        assert scope.cancelled_caught


async def test_names_that_are_no_plain_text() -> None:
    name = 'a "name" \\ of\ntwo lines, München'
    async with open_handle(1) as handle:
        handle.add_host(2, name=name)
        metrics = await measure(handle)
        text = make_classic_text(metrics).decode()
        assert value(text, "knet_host_reachable", host="2", host_name=name) == 0
        assert make_openmetrics_text(metrics).endswith(b"# EOF\n")
