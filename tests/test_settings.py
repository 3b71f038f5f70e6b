"""The settings of a handle that can change while it runs."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import attrs
import pytest
import trio

from knet_trio import (
    BusyError,
    CryptoConfig,
    DataMtuChanged,
    DefragBuffers,
    DropCause,
    Handle,
    InvalidArgumentError,
    Message,
    OnwireVersions,
    open_handle,
)
from knet_trio._core.onwire import Data, encode_data
from knet_trio.cli.relay import WireEnd, open_relay
from tests.cluster import (
    KEY,
    LOCALHOST,
    PATIENCE,
    Pair,
    add_quick_link,
    open_pair,
    receive,
    wait_dropped,
    wait_for,
)

LOW_DELAY = 0x10
PING_INTERVAL = 0.02


@contextmanager
def listening(host: str) -> Generator[socket.socket]:
    """A socket that tells the type of service of what arrives at it."""
    ipv6 = ":" in host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((host, 0))
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        yield sock


async def service_of_next(sock: socket.socket) -> int:
    """The type of service of the next packet."""
    await trio.lowlevel.wait_readable(sock)
    _, ancillary, _, _ = sock.recvmsg(2048, 256)
    ((level, kind, value),) = ancillary
    assert (level, kind) in (
        (socket.IPPROTO_IP, socket.IP_TOS),
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    )
    return int.from_bytes(value, sys.byteorder)


async def wait_service(sock: socket.socket, before: int, after: int) -> None:
    """Return once packets have the one type of service, having had no other than these."""
    with trio.fail_after(PATIENCE):
        while (service := await service_of_next(sock)) != after:
            assert service == before


@pytest.mark.parametrize("host", [LOCALHOST, "::1"])
class TestDscp:
    async def test_it_marks_packets_of_high_priority_links_at_once(self, host: str) -> None:
        with listening(host) as peer, listening(host) as other:
            async with open_handle(1) as handle:
                beta = handle.add_host(2)
                for link_id, sock in enumerate((peer, other)):
                    await beta.add_link(
                        link_id,
                        (host, 0),
                        sock.getsockname()[:2],
                        ping_interval=PING_INTERVAL,
                        high_priority=sock is peer,
                    )
                assert handle.dscp == 0
                await wait_service(peer, LOW_DELAY, LOW_DELAY)
                await wait_service(other, 0, 0)
                handle.dscp = 46
                assert handle.dscp == 46
                await wait_service(peer, LOW_DELAY, 46 << 2)
                handle.dscp = 0
                await wait_service(peer, 46 << 2, LOW_DELAY)
                for _ in range(5):
                    await wait_service(other, 0, 0)

    async def test_it_marks_links_that_are_added_later(self, host: str) -> None:
        with listening(host) as peer:
            async with open_handle(1, dscp=8) as handle:
                handle.dscp = 10
                await handle.add_host(2).add_link(
                    0, (host, 0), peer.getsockname()[:2], high_priority=True
                )
                await wait_service(peer, 10 << 2, 10 << 2)

    async def test_a_socket_is_marked_from_its_first_high_priority_link_on(self, host: str) -> None:
        with listening(host) as peer:
            async with open_handle(1, dscp=46) as handle:
                plain = await handle.add_host(2).add_link(
                    0, (host, 0), peer.getsockname()[:2], ping_interval=PING_INTERVAL
                )
                await wait_service(peer, 0, 0)
                await handle.add_host(3).add_link(
                    0, plain.config.src, (host, 1), high_priority=True, enabled=False
                )
                await wait_service(peer, 0, 46 << 2)
                handle.dscp = 10
                await wait_service(peer, 46 << 2, 10 << 2)


@pytest.mark.parametrize("dscp", [-1, 64, 1.5, True, None])
async def test_a_dscp_out_of_range_changes_nothing(dscp: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="0 to 63"):
        async with open_handle(1, dscp=dscp):
            pass
    async with open_handle(1, dscp=5) as handle:
        with pytest.raises(InvalidArgumentError, match="0 to 63"):
            handle.dscp = dscp
        assert handle.dscp == 5


async def test_the_dscp_of_a_handle_that_has_ended_cannot_change() -> None:
    async with open_handle(1) as handle:
        await handle.add_host(2).add_link(0, (LOCALHOST, 0), (LOCALHOST, 1), high_priority=True)
    with pytest.raises(trio.ClosedResourceError):
        handle.dscp = 1


class Setting(NamedTuple):
    """A number of seconds that a handle keeps."""

    name: str
    default: float


@pytest.mark.parametrize(
    "setting", [Setting("reconnect_interval", 1.0), Setting("timer_resolution", 0.2)]
)
class TestSeconds:
    async def test_they_are_kept(self, setting: Setting) -> None:
        async with open_handle(1) as handle:
            assert getattr(handle, setting.name) == setting.default
            for seconds in (0.001, 2, 86400.0):
                setattr(handle, setting.name, seconds)
                assert getattr(handle, setting.name) == seconds

    @pytest.mark.parametrize("seconds", [0.0009, -1.0, 86401, float("nan"), "1", None, True, False])
    async def test_they_are_checked(self, setting: Setting, seconds: Any) -> None:
        async with open_handle(1) as handle:
            with pytest.raises(InvalidArgumentError, match=setting.name):
                setattr(handle, setting.name, seconds)
            assert getattr(handle, setting.name) == setting.default


async def test_no_time_is_no_interval_but_the_usual_resolution() -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match="reconnect_interval"):
            handle.reconnect_interval = 0
        for nothing in (0, 0.0):
            handle.timer_resolution = 0.5
            handle.timer_resolution = nothing
            assert handle.timer_resolution == 0.2


class TestBooleans:
    @pytest.mark.parametrize("name", ["access_lists", "hedge", "allow_clear_traffic"])
    @pytest.mark.parametrize("value", ["no", 0, 1, b"", [True]])
    async def test_are_booleans_or_an_error(self, name: str, value: Any) -> None:
        async with open_handle(1) as handle:
            before = getattr(handle, name)
            with pytest.raises(InvalidArgumentError, match=f"{name}.*neither True nor False"):
                setattr(handle, name, value)
            assert getattr(handle, name) is before

    @pytest.mark.parametrize(
        "name", ["access_lists", "hedge", "allow_clear_traffic", "forwarding", "privileged"]
    )
    async def test_a_handle_is_opened_with_them(self, name: str) -> None:
        arguments: dict[str, Any] = {name: "false"}
        with pytest.raises(InvalidArgumentError, match=name):
            async with open_handle(1, **arguments):
                pass

    async def test_those_of_calls_and_links(self) -> None:
        wrong: Any = "off"
        async with open_handle(1) as handle:
            with pytest.raises(InvalidArgumentError, match="forwarding"):
                await handle.set_forwarding(wrong)
            assert handle.forwarding is True
            with pytest.raises(InvalidArgumentError, match="links"):
                handle.clear_statistics(links=wrong)
            host = handle.add_host(2)
            ends = ("127.0.0.1", 0), ("127.0.0.1", 9)
            for name in ("enabled", "high_priority"):
                arguments: dict[str, Any] = {name: wrong}
                with pytest.raises(InvalidArgumentError, match=name):
                    await host.add_link(0, *ends, **arguments)
            link = await host.add_link(0, *ends, enabled=False)
            with pytest.raises(InvalidArgumentError, match="enabled"):
                link.enabled = wrong
            assert link.enabled is False


async def test_clear_traffic_ends_with_the_first_key_in_use() -> None:
    async with open_handle(1) as handle:

        def allowed() -> bool:
            return handle.allow_clear_traffic

        assert allowed()
        handle.set_crypto(CryptoConfig(key=bytes(128)))
        assert allowed()
        handle.use_crypto(1)
        assert not allowed()
        handle.allow_clear_traffic = True
        handle.use_crypto(1)
        assert allowed()
        handle.allow_clear_traffic = None
        assert not allowed()
        handle.replace_crypto(None)
        assert allowed()


async def test_a_handle_is_opened_with_a_reconnect_interval() -> None:
    async with open_handle(1, reconnect_interval=0.5) as handle:
        assert handle.reconnect_interval == 0.5
    with pytest.raises(InvalidArgumentError, match="reconnect_interval"):
        async with open_handle(1, reconnect_interval=0):
            pass


async def test_there_is_one_version_of_the_protocol() -> None:
    async with open_handle(1) as handle:
        assert handle.onwire_versions == OnwireVersions(minimum=1, maximum=1, in_use=1)
        with pytest.raises(AttributeError):
            handle.onwire_versions = OnwireVersions(1, 2, 2)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            handle.onwire_versions.in_use = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


class Receiving(NamedTuple):
    """Host 1, and the place where what host 2 sends to it comes out."""

    handle: Handle
    end: WireEnd
    channel: trio.abc.ReceiveChannel[Message]

    async def begin(self, first: int, count: int) -> None:
        """Let the first halves of so many messages come in, and return when they have."""
        for seq in range(first, first + count):
            self._emit(Data(2, seq, 0, True, 2, 1, 0, b"half"))
        self._emit(Data(2, first + count, 0, True, 1, 0, 0, b"whole"))
        assert await receive(self.channel, 1) == [b"whole"]

    async def complete(self, seq: int) -> None:
        """Let the second half of a message come in, and return when it is whole."""
        self._emit(Data(2, seq, 0, True, 2, 2, 0, b"!"))
        assert await receive(self.channel, 1) == [b"half!"]

    @property
    def given_up(self) -> int:
        """How many messages were."""
        return self.handle.statistics().drops.get(DropCause.REASSEMBLY_GIVEN_UP, 0)

    def _emit(self, packet: Data) -> None:
        self.end.emit(memoryview(encode_data(packet)))


class TestDefragBuffers:
    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Receiving]:
        async with open_relay(1) as network, open_handle(1) as a, open_handle(2) as b:
            near, far = network.wires[0]
            hosts = [(a.add_host(2), near), (b.add_host(1), far)]
            for host, end in hosts:
                link = await add_quick_link(host, 0, (LOCALHOST, 0), end.address)
                end.plug(link.config.src)
            with trio.fail_after(PATIENCE):
                for host, _ in hosts:
                    await host.wait_reachable()
            yield Receiving(a, near, a.open_channel(0))

    async def test_more_messages_than_they_hold_are_given_up(self) -> None:
        async with self.open() as receiving:
            await receiving.begin(1, 32)
            assert receiving.given_up == 0
            await receiving.begin(101, 1)
            assert receiving.given_up == 1
            await receiving.complete(2)

    async def test_fewer_take_effect_at_once(self) -> None:
        async with self.open() as receiving:
            await receiving.begin(1, 10)
            receiving.handle.defrag_buffers = DefragBuffers(4, 4)
            assert receiving.given_up == 6
            await receiving.complete(7)
            await receiving.begin(101, 4)
            assert receiving.given_up == 9
            await receiving.complete(104)

    async def test_more_take_effect_at_once(self) -> None:
        async with self.open() as receiving:
            receiving.handle.defrag_buffers = DefragBuffers(4, 64)
            await receiving.begin(1, 64)
            assert receiving.given_up == 0

    async def test_hosts_that_are_added_later_have_them_too(self) -> None:
        async with open_relay(1) as network, open_handle(1) as a, open_handle(2) as b:
            a.defrag_buffers = DefragBuffers(4, 4)
            near, far = network.wires[0]
            for handle, other, end in ((a, 2, near), (b, 1, far)):
                link = await add_quick_link(
                    handle.add_host(other), 0, (LOCALHOST, 0), end.address
                )  # fmt: skip
                end.plug(link.config.src)
            with trio.fail_after(PATIENCE):
                await a.get_host(2).wait_reachable()
            receiving = Receiving(a, near, a.open_channel(0))
            await receiving.begin(1, 5)
            assert receiving.given_up == 1

    async def test_they_are_read_back(self) -> None:
        async with open_handle(1) as handle:
            assert handle.defrag_buffers == DefragBuffers(minimum=32, maximum=32)
            handle.defrag_buffers = DefragBuffers(8, 100)
            assert handle.defrag_buffers == DefragBuffers(8, 100)

    @pytest.mark.parametrize("numbers", [(3, 8), (4, 1025), (8, 4), (4, 8.0), (True, 8)])
    def test_numbers_that_do_not_fit(self, numbers: tuple[Any, Any]) -> None:
        with pytest.raises(InvalidArgumentError):
            DefragBuffers(*numbers)

    async def test_nothing_else_is_taken_for_them(self) -> None:
        async with open_handle(1) as handle:
            buffers: Any = 64
            with pytest.raises(InvalidArgumentError, match="DefragBuffers"):
                handle.defrag_buffers = buffers


OLD = CryptoConfig(KEY)
NEW = CryptoConfig(KEY[::-1], cipher="aes128", hash="sha512")


async def greet(pair: Pair) -> None:
    """A message gets through both ways."""
    channels = [pair.a.open_channel(), pair.b.open_channel()]
    for sender, receiver in (channels, channels[::-1]):
        await sender.send(b"hello")
        assert await receive(receiver, 1) == [b"hello"]
    for channel in channels:
        channel.close()


class TestReplacingCrypto:
    async def test_a_key_in_use_is_replaced(self) -> None:
        async with open_pair(crypto=OLD) as pair:
            with pytest.raises(BusyError):
                pair.a.set_crypto(NEW, 1)
            pair.a.replace_crypto(NEW)
            # The old key is gone: what the other still seals with it is refused.
            await wait_dropped(pair.a, DropCause.NOT_AUTHENTIC)
            pair.b.replace_crypto(NEW)
            with trio.fail_after(PATIENCE):
                await pair.a.get_host(2).wait_reachable()
                await pair.b.get_host(1).wait_reachable()
            await greet(pair)

    async def test_sizes_are_those_of_the_new_envelope(self) -> None:
        async with open_pair(crypto=OLD) as pair, pair.a.events() as events:
            link = pair.a.get_host(2).links[0]
            await wait_for(lambda: link.status.proto_overhead == 54 + 16 + 32)
            pair.a.replace_crypto(NEW)
            pair.b.replace_crypto(NEW)
            with trio.fail_after(PATIENCE):
                while not isinstance(await events.receive(), DataMtuChanged):
                    pass
            await wait_for(lambda: link.status.proto_overhead == 54 + 16 + 64)

    async def test_it_turns_crypto_on_and_off(self) -> None:
        async with open_pair() as pair:
            for config in (OLD, None):
                pair.a.replace_crypto(config)
                pair.b.replace_crypto(config)
                await greet(pair)
            assert pair.a.statistics().tx_crypt_packets > 0
            # The search for the path MTU began again with each change.
            await wait_for(lambda: pair.a.data_mtu == pair.b.data_mtu)
            # Slot 1 is empty, as it was at first.
            with pytest.raises(InvalidArgumentError, match="empty"):
                pair.a.use_crypto(1)

    async def test_the_other_slot_stays(self) -> None:
        async with open_pair(crypto=OLD) as pair:
            pair.a.set_crypto(NEW, 2)
            pair.a.use_crypto(2)
            pair.a.replace_crypto(OLD)
            await greet(pair)
            pair.a.use_crypto(2)
            pair.b.replace_crypto(NEW)
            with trio.fail_after(PATIENCE):
                await pair.a.get_host(2).wait_reachable()
                await pair.b.get_host(1).wait_reachable()
            await greet(pair)

    @pytest.mark.parametrize("slot", [0, 1, 2])
    async def test_what_cannot_be_used_leaves_all_as_it_was(self, slot: int) -> None:
        async with open_handle(1) as handle:
            handle.set_crypto(OLD, 1)
            handle.set_crypto(NEW, 2)
            handle.use_crypto(slot)
            before = handle.data_mtu
            with pytest.raises(InvalidArgumentError):
                handle.replace_crypto(CryptoConfig(KEY, cipher="rot13"))
            assert handle.data_mtu == before
            if slot:
                with pytest.raises(BusyError):
                    handle.set_crypto(OLD, slot)
            handle.use_crypto(1)
            assert handle.data_mtu == 421


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(
    ("before", "after"), [("none", "aes256"), ("aes-128-ctr", "aes-256-ctr"), ("aes256", "aes128")]
)
async def test_another_cipher_under_the_same_key_loses_nothing(
    before: str, after: str, first: str
) -> None:
    """The hash of a packet is right for both slots, so that alone it cannot tell them apart."""
    old, new = CryptoConfig(KEY, cipher=before), CryptoConfig(KEY, cipher=after)
    async with open_pair(crypto=old) as pair:
        handles = (pair.a, pair.b) if first == "a" else (pair.b, pair.a)
        channels = [handle.open_channel(0) for handle in handles]

        async def talk() -> None:
            # Single packets, trains of them, and fragments.
            sent = [b"%d " % i * size for size in (1, 400, 20_000) for i in range(20)]
            for sender, receiver in (channels, reversed(channels)):
                await sender.send_many(sent)
                assert await receive(receiver, len(sent)) == sent

        await talk()
        for handle in handles:
            handle.set_crypto(new, 2)
            await talk()
        for handle in handles:
            handle.use_crypto(2)
            await talk()
        for handle in handles:
            handle.set_crypto(None, 1)
            await talk()
        for handle in handles:
            # One is counted that is dropped, and one that has become something else.
            causes = {DropCause.NOT_AUTHENTIC, DropCause.WRONG_VERSION, DropCause.MALFORMED}
            assert not any(handle.statistics().drops[cause] for cause in causes)
            assert handle.statistics().rx_crypt_packets > 0


async def test_the_mtu_changes_at_once_and_never_by_way_of_the_minimum() -> None:
    async with open_pair() as pair:
        await wait_for(lambda: pair.a.data_mtu == 65481)
        async with pair.a.events() as events:

            async def changed() -> int:
                with trio.fail_after(PATIENCE):
                    event = await events.receive()
                assert isinstance(event, DataMtuChanged)
                assert pair.a.data_mtu == event.data_mtu
                return event.data_mtu

            for _ in range(2):
                pair.a.mtu = 1500
                assert await changed() == 1446
                pair.a.mtu = 9000
                assert await changed() == 8946
                # What is set stays until the search has ended.
                pair.a.mtu = None
                assert await changed() == 65481
            await greet(pair)
