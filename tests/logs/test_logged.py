"""What is told, at which level, and how often."""

from __future__ import annotations

import errno
import os

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from knet_trio import (
    AclEntry,
    CompressConfig,
    CryptoConfig,
    Drop,
    DropCause,
    FilterPacket,
    FilterResult,
    LogSubsystem,
    Unicast,
    open_handle,
)
from knet_trio._core.onwire import Data, Ping, encode_data, encode_ping
from knet_trio._core.rate_limit import FIRST
from knet_trio._logs.log import HandleLog
from knet_trio._pipeline.receiver import Receiver
from knet_trio._state.channel_queue import ChannelQueue
from knet_trio._state.network_link import NetworkLinkState
from knet_trio._transport import options
from tests.cluster import KEY, open_pair, wait_for
from tests.logs.reading import Line, Logged, LogPipe
from tests.logs.worlds import make_world, no_reminders
from tests.pipeline.sending import Outgoing, message, running, send
from tests.state.fakes import World, address, refusal, start

PING = Ping(2, 0, bytes(16), 0, timed=True)
DATA = Data(2, 1, 0, True, 1, 0, 0, b"hello")
HOME = address(2)


def add_home(world: World, *, up: bool = True) -> NetworkLinkState:
    link = world.add_link(world.add_host(), dst=HOME)
    if up:
        world.bring_up(link)
    return link


# Repetitions.


async def test_a_flood_is_told_once_and_then_its_count(
    autojump_clock: MockClock, logged: Logged, pipe: LogPipe
) -> None:
    world = make_world(level="warning", fd=pipe.writer)
    link = add_home(world, up=False)
    stranger = address(66)
    refused = (
        f"link 0 to host 2: a packet from {stranger} is refused by the access list: no entry"
        " matches that address"
    )
    counted = f"{refused} (repeated 37 times in 1.0 s)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.context.heartbeats.run)
        for number in range(38):
            world.receive(PING, stranger)
            if number < 37:
                await trio.sleep(1 / 37)
        assert logged() == [("rx", "WARNING", f"[host 1] {refused}")]
        await trio.sleep(FIRST)
        assert logged() == [("rx", "WARNING", f"[host 1] {counted}")]
        # A whole interval without one: it is news again.
        await trio.sleep(3 * FIRST)
        world.receive(PING, stranger)
        assert logged() == [("rx", "WARNING", f"[host 1] {refused}")]
        nursery.cancel_scope.cancel()
    assert link.counters.drops[DropCause.ACCESS_LIST] == 39
    assert [record.text for record in pipe.read()] == [refused, counted, refused]
    world.context.log.close()


async def test_what_was_counted_is_told_at_the_end(logged: Logged) -> None:
    log = HandleLog(1, remind=no_reminders)
    for number in range(5):
        log.info(LogSubsystem.RX, "number %d", number, key="number")
    log.info(LogSubsystem.TX, "number %d", 9, key="number")
    log.close()
    assert [line.text for line in logged()] == [
        "[host 1] number 0",
        "[host 1] number 9",
        "[host 1] number 4 (repeated 4 times in 0.0 s)",
    ]


# Hosts and links.


async def test_a_link_that_flaps_is_told_once_and_then_counted(
    logged: Logged, mock_clock: MockClock
) -> None:
    world = make_world()
    link = add_home(world)
    logged()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.context.heartbeats.run)
        for _ in range(10):
            link.take_down(world.context.now(), "the test says so")
            world.bring_up(link)
        lines = [line.text for line in logged()]
        assert lines.count("[host 1] link 0 to host 2 is down: the test says so") == 1
        assert lines.count("[host 1] host 2 (host2) is unreachable") == 1
        await wait_all_tasks_blocked()
        mock_clock.jump(FIRST)
        await wait_all_tasks_blocked()
        lines = [line.text for line in logged()]
        nursery.cancel_scope.cancel()
    again = "(repeated 9 times in 0.0 s)"
    assert f"[host 1] link 0 to host 2 is down: the test says so {again}" in lines
    assert f"[host 1] host 2 (host2) is unreachable {again}" in lines


async def test_the_life_of_a_link(logged: Logged) -> None:
    world = make_world()
    link = add_home(world)
    assert logged() == [
        ("host", "DEBUG", "[host 1] host 2 (host2) is added"),
        ("link", "DEBUG", "[host 1] link 0 to host 2 is enabled"),
        ("link", "INFO", "[host 1] link 0 to host 2 is up: the peer answers pings"),
        ("host", "INFO", "[host 1] host 2 (host2) is reachable"),
    ]
    refused = f"the network reports for {HOME}: {os.strerror(errno.ECONNREFUSED)}"
    for _ in range(3):
        world.trouble(HOME, errno.ECONNREFUSED)
    doubted = f"link 0 to host 2 is in doubt: {refused}; pings are being sent to the peer"
    assert logged() == [("link", "INFO", f"[host 1] {doubted}")]
    refused = f"this machine reports for {HOME}: {os.strerror(errno.ECONNREFUSED)}"
    for _ in range(3):
        world.trouble(HOME, errno.ECONNREFUSED, local=True)
    assert logged() == [
        ("link", "WARNING", f"[host 1] link 0 to host 2 is down: {refused}"),
        ("host", "WARNING", "[host 1] host 2 (host2) is unreachable"),
        ("link", "INFO", f"[host 1] link 0 to host 2: {refused}"),
    ]
    world.bring_up(link)
    logged()
    link.set_enabled(False)
    # It was done on purpose, so nobody has to be warned.
    assert logged() == [
        ("link", "INFO", "[host 1] link 0 to host 2 is down: it was disabled here"),
        ("host", "INFO", "[host 1] host 2 (host2) is unreachable"),
    ]


async def test_timers_that_do_not_go_together(logged: Logged) -> None:
    world = make_world()
    expected = (
        "[host 1] link 0 to host 2: pong_timeout (0.3 s) is shorter than ping_interval (1 s), so"
        " the link goes down between two pings, or never comes up: change them with"
        " set_ping_timers"
    )
    host = world.add_host()
    logged()
    world.add_link(host, dst=address(2), ping_interval=1.0, pong_timeout=0.3)
    assert logged()[0] == ("link", "WARNING", expected)
    other = world.add_link(host, 1, dst=address(3))
    logged()
    other.set_timers(1.0, 1.0, 10)
    assert logged() == []
    other.set_timers(1.0, 0.3, 10)
    assert logged() == [("link", "WARNING", expected.replace("link 0", "link 1"))]


async def test_ids_that_somebody_makes_up_are_one_flood(
    autojump_clock: MockClock, logged: Logged
) -> None:
    world = make_world()
    add_home(world, up=False)
    logged()
    async with trio.open_nursery() as nursery:
        receiver = Receiver(world.handle)
        nursery.start_soon(receiver.run)
        nursery.start_soon(receiver.receive_from, world.endpoint)
        for host_id in range(100, 200):
            packet = bytearray(encode_ping(PING._replace(node=host_id)))
            packet[6] = 200
            world.endpoint.arrive((bytes(packet), address(7)))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(logged()) == 1
    assert world.context.counters.drops[DropCause.UNKNOWN_LINK] == 100


async def test_silence_takes_a_link_down_with_a_warning(
    autojump_clock: MockClock, logged: Logged
) -> None:
    world = make_world(level="info")
    link = add_home(world)
    logged()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.context.heartbeats.run)
        await link.connected.wait(False)
        nursery.cancel_scope.cancel()
    down, unreachable = logged()
    assert down[:2] == ("link", "WARNING")
    assert "no pong for" in down.text
    assert unreachable[:2] == ("host", "WARNING")


async def test_where_a_dynamic_peer_is(logged: Logged) -> None:
    world = make_world(level="info")
    link = world.add_link(world.add_host(), dst=None)
    link.acl.append(AclEntry.network("198.51.100.0/24"))
    world.receive(PING, address(5))
    assert logged() == []
    world.prove(link, address(5))
    assert logged() == [("link", "INFO", f"[host 1] link 0 to host 2: the peer is at {address(5)}")]


@pytest.mark.parametrize(
    ("mtu", "expected"),
    [
        (
            1500,
            [
                ("pmtud", "DEBUG", "[host 1] link 0 to host 2: the path MTU is 1500 bytes"),
                ("pmtud", "INFO", "[host 1] the data MTU is 1446 bytes"),
            ],
        ),
        (
            300,
            [
                (
                    "pmtud",
                    "WARNING",
                    "[host 1] link 0 to host 2: the path takes up to 300 bytes, too small for data",
                ),
                ("host", "WARNING", "[host 1] host 2 (host2) is unreachable"),
            ],
        ),
    ],
)
async def test_what_a_path_mtu_search_has_found(
    mtu: int, expected: list[Line], autojump_clock: MockClock, logged: Logged
) -> None:
    world = make_world()
    async with trio.open_nursery() as nursery:
        start(world, nursery).mtu = mtu
        link = add_home(world)
        logged()
        await trio.sleep(30)
        assert not link.path_mtu.search.searching
        nursery.cancel_scope.cancel()
    assert logged() == expected


async def test_handles_hosts_and_sockets(logged: Logged) -> None:
    async with open_handle(1, log_level="debug") as handle:
        host = handle.add_host(2, name="beta")
        link = await host.add_link(0, ("127.0.0.1", 0), ("127.0.0.1", 1), enabled=False)
        src = link.config.src
        await host.remove()
    assert logged() == [
        ("handle", "INFO", "[host 1] the handle is open"),
        ("host", "DEBUG", "[host 1] host 2 (beta) is added"),
        ("transport", "DEBUG", f"[host 1] udp socket {src} is open"),
        ("host", "DEBUG", "[host 1] host 2 (beta) is removed"),
        ("transport", "DEBUG", f"[host 1] udp socket {src} is closed"),
        ("handle", "INFO", "[host 1] the handle has ended"),
    ]


async def test_a_loopback_link(logged: Logged) -> None:
    async with open_handle(1) as handle:
        host = handle.add_host(1)
        link = await host.add_link(0, ("127.0.0.1", 0), transport="loopback")
        link.enabled = False
        texts = [line.text for line in logged() if line.logger == "link"]
    assert texts == [
        "[host 1] link 0 to host 1 is up: messages to this host itself stay within it",
        "[host 1] link 0 to host 1 is down: it was disabled here",
    ]


# Settings.


async def test_settings(logged: Logged) -> None:
    crypto = CryptoConfig(key=KEY, cipher="aes128", hash="sha1")
    async with open_handle(1, crypto=crypto) as handle:
        assert [line.text for line in logged()] == [
            "[host 1] the handle is open",
            "[host 1] crypto slot 1 is set: cipher aes128, hash sha1, model openssl",
            "[host 1] crypto slot 1 is in use",
        ]
        handle.set_crypto(crypto, 2)
        handle.use_crypto(2)
        handle.set_crypto(None, 1)
        handle.replace_crypto(crypto)
        handle.use_crypto(0)
        handle.allow_clear_traffic = True
        handle.allow_clear_traffic = False
        slots = [line for line in logged() if line.logger != "pmtud"]
        handle.set_compress(CompressConfig("zlib"))
        handle.set_compress(CompressConfig("zlib", level=3))
        handle.set_compress(None)
        await handle.set_forwarding(False)
        await handle.set_forwarding(True)
        handle.access_lists = False
        handle.access_lists = True
        others = logged()
    assert slots == [
        ("crypto", "INFO", f"[host 1] {text}")
        for text in (
            "crypto slot 2 is set: cipher aes128, hash sha1, model openssl",
            "crypto slot 2 is in use",
            "crypto slot 1 is cleared",
            "crypto slot 1 is set: cipher aes128, hash sha1, model openssl",
            "crypto slot 1 is in use",
            "no crypto slot is in use: packets go in the clear",
            "clear packets are accepted",
            "clear packets are refused",
        )
    ]
    assert others == [
        (logger, "INFO", f"[host 1] {text}")
        for logger, text in (
            ("compress", "messages are compressed: model zlib, level default"),
            ("compress", "messages are compressed: model zlib, level 3"),
            ("compress", "messages are not compressed"),
            ("handle", "data forwarding is off"),
            ("handle", "data forwarding is on"),
            ("handle", "access lists are off"),
            ("handle", "access lists are on"),
        )
    ]


# What comes in and is refused.


async def test_control_packets_that_are_refused(logged: Logged) -> None:
    world = make_world()
    link = add_home(world, up=False)
    logged()
    world.receive(PING._replace(node=3), HOME)
    world.receive(PING._replace(link=1), HOME)
    elsewhere = HOME._replace(port=1)
    world.forge(link, bytes(16), elsewhere)
    link.set_enabled(False)
    world.receive(PING, HOME)
    assert logged() == [
        ("rx", level, f"[host 1] {text}")
        for level, text in (
            (
                "WARNING",
                (
                    f"{link.title}: a packet from {HOME} names host 3 as its sender, which the"
                    " handle does not have: that should be host 2"
                ),
            ),
            (
                "WARNING",
                (
                    f"{link.title}: a packet from {HOME} is for link 1 to host 2,"
                    " which the handle does not have: that should be link 0"
                ),
            ),
            (
                "WARNING",
                f"{link.title}: a pong from {elsewhere} is refused: it has to come from {HOME}",
            ),
            ("DEBUG", "link 0 to host 2: a packet of the peer is refused: the link is disabled"),
        )
    ]


class Inbox:
    """The way in, with channel 0 open for two messages."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self._world = world
        receiver = Receiver(world.handle)
        receiver.channels[0] = ChannelQueue(2, world.context.turns)
        nursery.start_soon(receiver.run)
        nursery.start_soon(receiver.receive_from, world.endpoint)

    async def arrive(self, *packets: Data, number: int = 2) -> None:
        """Let data come in from that address, and wait until it has gone through."""
        source = address(number)
        self._world.endpoint.arrive(*[(encode_data(packet), source) for packet in packets])
        await wait_all_tasks_blocked()


async def test_data_that_is_refused(logged: Logged) -> None:
    world = make_world()
    link = add_home(world, up=False)
    logged()
    async with trio.open_nursery() as nursery:
        inbox = Inbox(world, nursery)
        await inbox.arrive(DATA._replace(node=3))
        await inbox.arrive(DATA, number=3)
        await inbox.arrive(DATA)
        link.acl.clear()
        await inbox.arrive(DATA)
        nursery.cancel_scope.cancel()
    assert logged() == [
        ("rx", level, f"[host 1] {text}")
        for level, text in (
            (
                "WARNING",
                (
                    f"{link.title}: a packet from {HOME} names host 3 as its sender, which the"
                    " handle does not have: that should be host 2"
                ),
            ),
            (
                "WARNING",
                (
                    f"data of host 2 from {address(3)} is refused:"
                    " it has to come from an address of one of its links"
                ),
            ),
            ("DEBUG", "link 0 to host 2: data is refused: the host is unreachable"),
            (
                "WARNING",
                (
                    f"link 0 to host 2: a packet from {HOME} is refused by the access list: no"
                    " entry matches that address"
                ),
            ),
        )
    ]


async def test_messages_that_are_lost_on_their_way_in(logged: Logged) -> None:
    world = make_world()
    add_home(world)
    logged()

    def fail(packet: FilterPacket) -> FilterResult:
        raise ZeroDivisionError(packet.direction)

    async with trio.open_nursery() as nursery:
        inbox = Inbox(world, nursery)
        # How many are lost is told of what came in together.
        world.endpoint.coalesces = True
        await inbox.arrive(*[DATA._replace(seq=seq) for seq in range(1, 6)])
        await inbox.arrive(DATA._replace(seq=6, channel=1), DATA._replace(seq=7, compress=99))
        world.context.filter = fail
        await inbox.arrive(DATA._replace(seq=8))
        nursery.cancel_scope.cancel()
    assert sorted(logged()) == [
        Line(
            "compress",
            "WARNING",
            "[host 1] a message of host 2 cannot be decompressed and is lost:"
            " compression id 99 is not known",
        ),
        Line(
            "filter",
            "ERROR",
            "[host 1] a message on its way in is lost:"
            " the filter failed: ZeroDivisionError(<Direction.RX: 'rx'>)",
        ),
        Line(
            "rx",
            "WARNING",
            "[host 1] messages for channel 0 are lost: its reader is too slow",
        ),
        Line("rx", "WARNING", "[host 1] messages for channel 1 are lost: it is not open"),
    ]


async def test_another_key(logged: Logged) -> None:
    """What a person sees who gave one host a wrong key."""
    other = CryptoConfig(key=bytes(reversed(KEY)))
    async with open_pair(crypto=CryptoConfig(key=KEY)) as pair:
        logged()
        pair.b.replace_crypto(other)
        await wait_for(lambda: pair.a.statistics().drops.get(DropCause.NOT_AUTHENTIC, 0) > 3)
        refused = [line for line in logged() if line.level == "WARNING"]
    (source,) = {link.config.src for link in pair.b.hosts[1].links.values()}
    text = f"a packet from {source} is refused: no crypto configuration opens it"
    assert refused.count(Line("rx", "WARNING", f"[host 1] link 0 to host 2: {text}")) == 1


# What does not go out.


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            ZeroDivisionError("oops"),
            ("filter", "ERROR", "lost: the filter failed: ZeroDivisionError('oops')"),
        ),
        (Unicast([]), ("tx", "WARNING", "lost: the filter answered Unicast without a host")),
        (Drop(), ("tx", "DEBUG", "is dropped: the filter dropped the message")),
        (
            Unicast([3]),
            ("tx", "WARNING", "the handle has no host 3; it has 2 (host2); add_host(3) makes one"),
        ),
        (Unicast([2]), ("tx", "WARNING", "a message is lost: host 2 is unreachable")),
        (None, ("tx", "WARNING", "a message is lost: no host is reachable")),
    ],
)
async def test_messages_that_are_lost_on_their_way_out(
    answer: FilterResult | Exception | None, expected: tuple[str, str, str], logged: Logged
) -> None:
    world = make_world()
    add_home(world, up=False)
    logged()

    def decide(packet: FilterPacket) -> FilterResult:
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    world.context.filter = None if answer is None else decide
    await send(world, message(), message())
    (line,) = logged()
    assert line[:2] == expected[:2]
    assert line.text.startswith("[host 1] a message")
    assert line.text.endswith(expected[2])


async def test_a_failing_filter_comes_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = make_world()

    def broken_filter(packet: FilterPacket) -> FilterResult:
        raise ZeroDivisionError

    world.context.filter = broken_filter
    await send(world, message())
    assert "in broken_filter" in caplog.text


async def test_a_failing_cipher(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    world.context.crypto.set(CryptoConfig(key=KEY), 1)
    world.context.crypto.use(1)
    add_home(world)
    logged()

    def fail(_: object) -> list[bytes]:
        raise MemoryError("no room")

    async with running(world) as transmitter:
        monkeypatch.setattr(world.context.crypto.sealer, "seal", fail)
        await transmitter.send(*message())
        await transmitter.flush()
    assert logged() == [
        (
            "crypto",
            "ERROR",
            "[host 1] a message is lost: the cipher failed: MemoryError('no room')",
        )
    ]


@pytest.mark.parametrize(("number", "level"), [(errno.EPERM, "WARNING"), (errno.EMSGSIZE, "DEBUG")])
async def test_the_system_refuses_to_send(number: int, level: str, logged: Logged) -> None:
    world = make_world()
    add_home(world)
    logged()

    def refuse(*_: object) -> None:
        raise refusal(number)

    world.endpoint.refuse = refuse
    reason = os.strerror(number)
    await send(world, Outgoing((b"one", b"two"), 0, None))
    tx = [line for line in logged() if line.logger == "tx"]
    assert tx == [
        (
            "tx",
            level,
            f"[host 1] link 0 to host 2: this machine refuses to send: {os.strerror(number)}",
        ),
        (
            "tx",
            "WARNING",
            f"[host 1] link 0 to host 2: data to host 2 is lost, no link sent it: {reason}",
        ),
        # A path that takes nothing has taken the link down, before the second message.
        *(
            [("tx", "WARNING", "[host 1] a message is lost: host 2 is unreachable")]
            if number == errno.EMSGSIZE
            else []
        ),
    ]


async def test_buffers_that_came_out_too_small(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_buffers(*_: object, **__: object) -> str:
        return "the receive buffer is 1 bytes instead of 2: raise it"

    monkeypatch.setattr(options, "set_buffers", set_buffers)
    async with open_handle(1, log_level="warning") as handle:
        host = handle.add_host(2)
        for link_id in range(3):
            await host.add_link(link_id, ("127.0.0.1", 0), ("127.0.0.1", 9), enabled=False)
        (line,) = logged()
    assert line.level == "WARNING"
    assert "may lose packets: the receive buffer is 1 bytes instead of 2: raise it" in line.text
