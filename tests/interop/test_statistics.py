"""Every field of the statistics beside that of the C library, after the same traffic.

Two hosts of the C library are the measure: what is done with them is done with one of ours in the
place of either, and all counters of both hosts are compared. Not compared are durations, latencies
and times of day. What is counted otherwise here stands in the rows of docs/libknet.md, and has a
test of its own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs
import pytest
import trio

from knet_trio import HandleStatistics, LinkStatistics
from tests.interop.c_node import CCrypto
from tests.interop.libknet import HandleStats, LinkStats
from tests.interop.side_pairs import KINDS, A, B, fall_silent, marker, open_pair, settle
from tests.interop.sides import HANDLE_FIELDS, LINK_FIELDS, REFUSED, Record, Side

LIMIT: Final = 120.0
NOBODY: Final = 9
FIXED_MTU: Final = 1000
# Ours makes fragments of equal size, and the C library full ones and a rest. Of this length both
# need as many bytes in their envelopes.
LONG: Final = 65520
TEXT: Final = b"The quick brown knet jumps over the lazy link. " * 50
PROGRAMS: Final = (("ours", "C"), ("C", "ours"), ("ours", "ours"))

REPLY_SIZE: Final = 9
"""Bytes of the answer to a path MTU probe."""

Traffic = Callable[[Side, Side], Awaitable[None]]


def test_every_field_is_looked_at() -> None:
    """What is not compared are durations, latencies and times of day, and what is ours alone."""
    ours = {field.name for field in attrs.fields(HandleStatistics)}
    left = {name for name in ours - set(HANDLE_FIELDS) if "_time_" not in name}
    news = {"drops", "tx_failed_to_compress", "tx_unable_to_compress", "rx_failed_to_decompress"}
    assert left == news
    assert {field[0] for field in HandleStats._fields_} - ours == {"size"}
    ours = {field.name for field in attrs.fields(LinkStatistics)}
    left = {name for name in ours - set(LINK_FIELDS) if not name.startswith("latency_")}
    assert left == {"last_up_times", "last_down_times", "transitions"}
    theirs = {field[0] for field in LinkStats._fields_}
    assert theirs - ours == {"last_up_time_index", "last_down_time_index"}


@pytest.fixture(params=["clear", "encrypted"])
def crypto(request: pytest.FixtureRequest, c_key: bytes) -> CCrypto | None:
    return None if request.param == "clear" else CCrypto(key=c_key)


Counted = Mapping[str, Mapping[str, float]]
"""Counters by what they are of, and their names."""


def differences(found: Counted, expected: Counted) -> list[str]:
    """What is not as the C library counts it."""
    assert {of: set(fields) for of, fields in found.items()} == {
        of: set(fields) for of, fields in expected.items()
    }
    return [
        f"{of}: {name} is {fields[name]}, in C {expected[of][name]}"
        for of, fields in found.items()
        for name in fields
        if fields[name] != expected[of][name]
    ]


# Links that have come up.


def rates(own: Record, peer: Record, links: int) -> dict[str, float]:
    """What a host with links that are up has counted, whatever the number of pings was."""
    result: dict[str, float] = {}
    sealed = 0
    for i in range(links):
        record = {name: own[f"link {i} {name}"] for name in LINK_FIELDS}
        other = {name: peer[f"link {i} {name}"] for name in LINK_FIELDS}
        # Of the markers too, which the C library sends over one link while it has not yet taken
        # over that there is another policy.
        kinds = ("tx_ping", "rx_ping", "tx_pong", "rx_pong", "tx_pmtu", "tx_data", "rx_data")
        for kind in kinds:
            packets, size = record[f"{kind}_packets"], record[f"{kind}_bytes"]
            result[f"link {i} {kind}_bytes"] = size / packets if packets else 0.0
        # Probes and answers are counted together.
        answers = record["rx_pmtu_packets"] - other["tx_pmtu_packets"]
        assert answers == record["tx_pmtu_packets"]
        probes = record["rx_pmtu_bytes"] - REPLY_SIZE * answers
        if other["tx_pmtu_packets"]:
            result[f"link {i} rx_pmtu_bytes"] = probes / other["tx_pmtu_packets"]
        for way in ("tx", "rx"):
            for what in ("packets", "bytes"):
                counts = [record[f"{way}_{kind}_{what}"] for kind in (*KINDS, "pmtu")]
                assert record[f"{way}_total_{what}"] == sum(counts)
        for name in LINK_FIELDS:
            if name.endswith(("_errors", "_retries")) or name == "up_count":
                result[f"link {i} {name}"] = record[name]
        for name in ("enabled", "connected", "dynconnected", "mtu", "proto_overhead"):
            result[f"link {i} {name}"] = own[f"link {i} {name}"]
        # Answers to probes are sealed like the rest, though not counted among what is sent.
        sealed += record["tx_total_packets"] - record["tx_data_packets"] + other["tx_pmtu_packets"]
    # What goes over several links is sealed once, and opened on each.
    sealed += max(own[f"link {i} tx_data_packets"] for i in range(links))
    opened = sum(own[f"link {i} rx_data_packets"] for i in range(links))
    for name in HANDLE_FIELDS:
        if name not in ("tx_crypt_packets", "rx_crypt_packets"):
            result[name] = own[name]
    # The C library seals a probe now and then that the interface then refuses, and counts nothing.
    result["tx_crypt_packets of all sent"] = round(own["tx_crypt_packets"] / sealed)
    result["rx_crypt_packets of all received"] = own["rx_crypt_packets"] / opened
    return result


async def connected(programs: tuple[str, str], crypto: CCrypto | None, mtu: int = 0) -> Counted:
    """What two hosts have counted when nothing was sent but by themselves."""
    async with open_pair(programs, crypto, links=2, mtu=mtu) as (a, b):
        of_a, of_b = await fall_silent(a, b)
        return {"host A": rates(of_a, of_b, 2), "host B": rates(of_b, of_a, 2)}


@pytest.mark.parametrize("programs", PROGRAMS)
async def test_links_that_have_come_up(programs: tuple[str, str], crypto: CCrypto | None) -> None:
    with trio.fail_after(LIMIT):
        expected = await connected(("C", "C"), crypto)
        assert differences(await connected(programs, crypto), expected) == []


@pytest.mark.parametrize("programs", PROGRAMS)
async def test_a_fixed_mtu(programs: tuple[str, str], crypto: CCrypto | None) -> None:
    """It is not searched for: no probe, and no overhead."""
    with trio.fail_after(LIMIT):
        expected = await connected(("C", "C"), crypto, mtu=FIXED_MTU)
        assert differences(await connected(programs, crypto, mtu=FIXED_MTU), expected) == []


# Messages.


async def whole(a: Side, b: Side) -> None:
    for size in (1, 100, 1446):
        await a.send(bytes(size))
        assert await b.receive() == bytes(size)


async def both_ways(a: Side, b: Side) -> None:
    await whole(a, b)
    await whole(b, a)


async def fragments(a: Side, b: Side) -> None:
    await a.send(bytes(LONG))
    assert await b.receive() == bytes(LONG)


async def send_sync(a: Side, b: Side) -> None:
    await a.set_filter([B])
    await a.send_sync(REFUSED)
    assert await b.receive() == REFUSED


async def filter_error(a: Side, b: Side) -> None:
    await a.set_filter(None)
    await a.send(REFUSED)
    await a.fail_to_send_sync(REFUSED)
    await marker(a, b)


async def nobody(a: Side, b: Side) -> None:
    await a.set_filter([NOBODY])
    await a.send(REFUSED)
    await a.fail_to_send_sync(REFUSED)
    await marker(a, b)


async def itself(a: Side, b: Side) -> None:
    await a.set_filter([A])
    await a.send(REFUSED)
    await marker(a, b)


async def somebody_and_nobody(a: Side, b: Side) -> None:
    await a.set_filter([A, B, NOBODY])
    await a.send(REFUSED)
    assert await b.receive() == REFUSED


async def not_forwarded_by_the_sender(a: Side, b: Side) -> None:
    await a.set_filter([B])
    await a.set_forwarding(False)
    await a.fail_to_send_sync(REFUSED)
    await a.set_forwarding(True)
    await marker(a, b)


async def not_forwarded_by_the_receiver(a: Side, b: Side) -> None:
    await b.set_forwarding(False)
    await a.send(REFUSED)
    await b.wait_link(0, rx_data_packets=1)
    await b.set_forwarding(True)
    await marker(a, b)


PLAIN: Final = (
    whole,
    both_ways,
    fragments,
    send_sync,
    filter_error,
    nobody,
    itself,
    somebody_and_nobody,
    not_forwarded_by_the_sender,
    not_forwarded_by_the_receiver,
)


async def compressible(a: Side, b: Side) -> None:
    for data in (TEXT, bytes(65536)):
        await a.send(data)
        assert await b.receive() == data


async def incompressible(a: Side, b: Side) -> None:
    for size in (101, 2000, LONG):
        data = os.urandom(size)
        await a.send(data)
        assert await b.receive() == data


async def below_the_threshold(a: Side, b: Side) -> None:
    for size in (1, 100):
        await a.send(bytes(size))
        assert await b.receive() == bytes(size)


async def together(a: Side, b: Side) -> None:
    """Many, of which some become smaller."""
    datas = [TEXT, b"short", os.urandom(500), TEXT[:101]]
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for data in datas:
                await a.send(data)

        nursery.start_soon(send)
        for data in datas:
            assert await b.receive() == data


async def compressed_and_refused(a: Side, b: Side) -> None:
    await a.set_filter([NOBODY])
    await a.send(REFUSED)
    await a.send(TEXT)
    assert await b.receive() == TEXT


async def compressed_in_step(a: Side, b: Side) -> None:
    await send_sync(a, b)


COMPRESSED: Final = (
    compressible,
    incompressible,
    below_the_threshold,
    together,
    compressed_and_refused,
    compressed_in_step,
)


async def count(a: Side, b: Side, traffics: tuple[Traffic, ...]) -> Counted:
    """What both hosts count of each traffic, by its name."""
    result: dict[str, Mapping[str, float]] = {}
    for traffic in traffics:
        for side in (a, b):
            await side.clear_statistics()
            cleared = await side.record()
            kept = ("enabled", "connected", "mtu", "proto_overhead")
            assert not any(n for name, n in cleared.items() if not name.endswith(kept))
        await traffic(a, b)
        of_a, of_b = await settle(a, b)
        result[f"{traffic.__name__}, host A"] = of_a
        result[f"{traffic.__name__}, host B"] = of_b
    return result


async def count_plain(programs: tuple[str, str], crypto: CCrypto | None) -> Counted:
    async with open_pair(programs, crypto) as (a, b):
        await fall_silent(a, b)
        return await count(a, b, PLAIN)


@pytest.mark.parametrize("programs", PROGRAMS)
async def test_messages(programs: tuple[str, str], crypto: CCrypto | None) -> None:
    with trio.fail_after(LIMIT):
        expected = await count_plain(("C", "C"), crypto)
        assert differences(await count_plain(programs, crypto), expected) == []


async def count_compressed(programs: tuple[str, str], crypto: CCrypto | None) -> Counted:
    async with open_pair(programs, crypto) as (a, b):
        await fall_silent(a, b)
        # Both libraries use the system's zlib: what is compressed has the same size too.
        await a.set_compress("zlib", 6)
        return await count(a, b, COMPRESSED)


@pytest.mark.parametrize("programs", PROGRAMS)
async def test_compression(programs: tuple[str, str], crypto: CCrypto | None) -> None:
    with trio.fail_after(LIMIT):
        expected = await count_compressed(("C", "C"), crypto)
        assert differences(await count_compressed(programs, crypto), expected) == []


async def follow_policy(a: Side, b: Side, *, both: bool) -> None:
    """Until a message goes over both links, or over the second alone: the C library takes time."""

    async def sent() -> list[int]:
        return [(await a.link_record(link_id))["tx_data_packets"] for link_id in (0, 1)]

    while True:
        before = await sent()
        await marker(a, b)
        after = await sent()
        if [more - less for more, less in zip(after, before, strict=True)] == [int(both), 1]:
            return


async def count_on_two_links(programs: tuple[str, str], crypto: CCrypto | None) -> Counted:
    async with open_pair(programs, crypto, links=2) as (a, b):
        await fall_silent(a, b)
        result: dict[str, Mapping[str, float]] = {}
        for policy in ("passive", "active"):
            await a.set_policy(policy)
            await follow_policy(a, b, both=policy == "active")
            counted = await count(a, b, (whole, fragments))
            result |= {f"{policy}, {of}": fields for of, fields in counted.items()}
        return result


@pytest.mark.parametrize("programs", PROGRAMS)
async def test_two_links(programs: tuple[str, str], crypto: CCrypto | None) -> None:
    """A message that goes over both is sealed once, and opened twice."""
    with trio.fail_after(LIMIT):
        expected = await count_on_two_links(("C", "C"), crypto)
        assert differences(await count_on_two_links(programs, crypto), expected) == []
