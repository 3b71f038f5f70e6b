"""A real Prometheus scrapes two running hosts, and the board in contrib/ has something to show."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trio

from knet_trio import CryptoConfig
from knet_trio.address import Address
from knet_trio.metrics import serve_metrics
from knet_trio.streams import open_streams
from tests.cluster import KEY, LOCALHOST, PATIENCE, open_pair, wait_for
from tests.metrics.boards import board_queries, rule_queries
from tests.metrics.scraping import find_tool, get
from tests.ports import free_tcp_port

# Prometheus makes no rate of fewer scrapes than two.
RATES_OVER = "5s"


@asynccontextmanager
async def open_prometheus(directory: Path, *targets: Address) -> AsyncGenerator[Address]:
    """Run Prometheus, which scrapes ``targets`` five times a second."""
    program = find_tool("prometheus")
    configuration = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "scrape_configs": [
            {"job_name": "knet", "static_configs": [{"targets": list(map(str, targets))}]}
        ],
    }
    # JSON is YAML too.
    (directory / "prometheus.yml").write_text(json.dumps(configuration))
    address = Address(LOCALHOST, free_tcp_port())
    command = [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, command)
        yield address
        process.terminate()
        await process.wait()


async def ask(prometheus: Address, query: str) -> list[dict[str, Any]]:
    """The result of a query now."""
    answer = await get(
        prometheus, "Connection: close", path=f"/api/v1/query?{urlencode({'query': query})}"
    )
    said = json.loads(answer.body)
    assert said["status"] == "success", (query, said)
    result: list[dict[str, Any]] = said["data"]["result"]
    return result


async def wait_ready(prometheus: Address) -> None:
    """Return once it answers."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                if (await get(prometheus, "Connection: close", path="/-/ready")).status == 200:
                    return
            except OSError:
                # It does not listen yet.
                await trio.sleep(0.02)


async def test_the_board_has_something_to_show(tmp_path: Path) -> None:
    crypto = CryptoConfig(key=KEY[:128], model="aead")
    async with (
        open_pair(links=2, crypto=crypto) as pair,
        serve_metrics(pair.a, (LOCALHOST, 0)) as first,
        serve_metrics(pair.b, (LOCALHOST, 0)) as second,
        open_prometheus(tmp_path, first, second) as prometheus,
        open_streams(pair.a, channel=7) as streams,
        open_streams(pair.b, channel=7) as others,
        others.listener(),
        await streams.connect(2),
    ):
        channel = pair.a.open_channel(1)
        pair.b.open_channel(1)
        await wait_ready(prometheus)
        with trio.fail_after(PATIENCE):
            while len(await ask(prometheus, "count_over_time(knet_link_up[1m]) > 4")) < 4:
                await channel.send(b"message")
                await trio.sleep(0.05)
        queries = board_queries(RATES_OVER)
        assert len(queries) > 10
        shown = {query: len(await ask(prometheus, query)) for query in queries}
        assert [query for query, series in shown.items() if not series] == []
        # Each of two links, seen from each of two hosts.
        assert len(await ask(prometheus, "knet_link_up == 1")) == 4
        for query in rule_queries():
            assert await ask(prometheus, query) == [], query
        pair.a.hosts[2].links[1].enabled = False
        await wait_for(lambda: not pair.b.hosts[1].links[1].status.connected)
        down = "knet_link_up == 0 and knet_link_enabled == 1"
        with trio.fail_after(PATIENCE):
            while not (found := await ask(prometheus, down)):  # noqa: ASYNC110  # nor does this
                await trio.sleep(0.05)
        assert [series["metric"]["instance"] for series in found] == [str(second)]
