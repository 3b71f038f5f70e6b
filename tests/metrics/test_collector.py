"""A registry of prometheus-client asks, from any thread."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable

import pytest
import trio
from prometheus_client import CollectorRegistry, Gauge, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric

from knet_trio import open_handle
from knet_trio.metrics import SERIES, HandleCollector
from tests.metrics.scraping import open_scraped, value
from tests.ports import free_tcp_port


def names(families: list[Metric]) -> list[str]:
    return [family.name for family in families]


async def test_in_trio() -> None:
    async with open_scraped() as scraped:
        registry = CollectorRegistry()
        registry.register(HandleCollector(scraped.handle))
        text = generate_latest(registry).decode()
        assert value(text, "knet_link_up", host="1", host_name="me", link="0") == 1


async def test_in_a_thread_of_trio_and_in_any_other() -> None:
    async with open_scraped() as scraped:
        collector = HandleCollector(scraped.handle)
        there = await trio.to_thread.run_sync(lambda: list(collector.collect()))
        results: list[list[Metric]] = []
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def collect() -> None:
            results.append(list(collector.collect()))
            token.run_sync_soon(done.set)

        thread = threading.Thread(target=collect)
        thread.start()
        await done.wait()
        thread.join()
        assert names(there) == names(results[0]) == names(list(collector.describe()))
        for families in (there, results[0]):
            assert [sample.value for sample in families[0].samples] == [1]


async def test_the_server_of_prometheus_client() -> None:
    async with open_scraped() as scraped:
        registry = CollectorRegistry()
        registry.register(HandleCollector(scraped.handle))
        port = free_tcp_port()
        server, thread = start_http_server(port, "127.0.0.1", registry)

        def read() -> bytes:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                found: bytes = answer.read()
                return found

        try:
            text = (await trio.to_thread.run_sync(read)).decode()
        finally:
            await trio.to_thread.run_sync(server.shutdown)
            server.server_close()
            await trio.to_thread.run_sync(thread.join)
        assert value(text, "knet_link_up", host="1", host_name="me", link="0") == 1


async def test_a_registry_finds_names_that_are_taken() -> None:
    async with open_handle(1) as handle:
        registry = CollectorRegistry()
        Gauge("knet_channel_queue", "somebody else's", registry=registry)
        with pytest.raises(ValueError, match="knet_channel_queue"):
            registry.register(HandleCollector(handle))


def test_after_the_end_of_trio_there_are_no_samples() -> None:
    made: list[HandleCollector] = []

    async def main() -> None:
        async with open_handle(1) as handle:
            made.append(HandleCollector(handle))

    trio.run(main)
    found: list[Metric] = []
    thread = threading.Thread(target=lambda: found.extend(made[0].collect()))
    thread.start()
    thread.join()
    assert len(found) == len(SERIES)
    assert [family.samples for family in found] == [[]] * len(SERIES)


async def test_after_the_end_of_the_handle_nothing_is_wrong() -> None:
    async with open_handle(1) as handle:
        handle.add_host(2)
        collector = HandleCollector(handle)
    # What it counted can still be read.
    assert len(list(collector.collect())) == len(SERIES)


def test_it_is_made_in_trio() -> None:
    made: list[Callable[[], HandleCollector]] = []

    async def main() -> None:
        async with open_handle(1) as handle:
            made.append(lambda: HandleCollector(handle))

    trio.run(main)
    with pytest.raises(RuntimeError):
        made[0]()
