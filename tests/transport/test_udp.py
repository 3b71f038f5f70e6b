from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio._core.parted import Parted
from knet_trio._transport import TRANSPORTS, find_transport, options, udp, udp_receiver
from knet_trio._transport.options import SOCKET_BUFFER
from knet_trio._transport.udp import UdpEndpoint, UdpTransport
from knet_trio._transport.udp_receiver import RECEIVE_BYTES, RECEIVE_CALLS
from knet_trio.abc import PathTrouble
from knet_trio.address import Address, parse_address
from knet_trio.errors import InvalidArgumentError, TransportError
from tests.interop.namespaces import NamespacePair, namespace_pair, namespaces_missing
from tests.transport.conftest import Opener, Socket

PlainSocket = socket.socket
V4 = Address("127.0.0.1", 0)
V6 = Address("::1", 0)
# Nobody has these (documentation), but they can be bound.
ELSEWHERE = {V4: Address("192.0.2.77", 0), V6: Address("2001:db8::77", 0)}
# What no test may need.
PATIENCE = 20.0
# More than any system allows who has no right to it.
IMPOSSIBLE = 2**30

both = pytest.mark.parametrize("local", [V4, V6], ids=["ipv4", "ipv6"])


async def receive(endpoint: UdpEndpoint, count: int) -> list[tuple[bytes, Address]]:
    """The next ``count`` datagrams."""
    datagrams: list[tuple[bytes, Address]] = []
    with trio.fail_after(PATIENCE):
        while len(datagrams) < count:
            for train in (await endpoint.receive()).trains:
                datagrams += [(datagram, train.source) for datagram in train.datagrams()]
    return datagrams


async def receive_troubles(endpoint: UdpEndpoint) -> list[PathTrouble]:
    """The next troubles, whatever else arrives."""
    with trio.fail_after(PATIENCE):
        while not (arrivals := await endpoint.receive()).troubles:
            pass
    return arrivals.troubles


class TestOptions:
    async def test_ipv4(self, open_udp: Opener) -> None:
        sock = open_udp.socket(open_udp(V4))
        level = socket.IPPROTO_IP
        # IP_MTU_DISCOVER is IP_PMTUDISC_PROBE; IP_RECVERR and IP_FREEBIND are on.
        assert [sock.getsockopt(level, name) for name in (10, 11, 15)] == [3, 1, 1]

    async def test_ipv6(self, open_udp: Opener) -> None:
        sock = open_udp.socket(open_udp(V6))
        level = socket.IPPROTO_IPV6
        # The same of IPv6, and IPV6_V6ONLY.
        assert [sock.getsockopt(level, name) for name in (23, 25, 78, 26)] == [3, 1, 1, 1]

    @both
    async def test_sockets_do_not_block_and_are_not_inherited(
        self, local: Address, open_udp: Opener
    ) -> None:
        sock = open_udp.socket(open_udp(local))
        assert not sock.getblocking()
        assert not sock.get_inheritable()

    @both
    async def test_priority_is_the_usual_one(self, local: Address, open_udp: Opener) -> None:
        assert priority(open_udp.socket(open_udp(local))) == (0, 0)

    @both
    @pytest.mark.parametrize(("dscp", "service"), [(0, 0x10), (46, 0xB8), (63, 0xFC)])
    async def test_high_priority(
        self, dscp: int, service: int, local: Address, open_udp: Opener
    ) -> None:
        sock = open_udp.socket(open_udp(local, high_priority=True, dscp=dscp))
        assert priority(sock) == (6, service)

    @both
    async def test_the_mark_of_an_open_socket_can_change(
        self, local: Address, open_udp: Opener
    ) -> None:
        endpoint = open_udp(local)
        sock = open_udp.socket(endpoint)
        for dscp, service in ((46, 0xB8), (63, 0xFC), (0, 0x10)):
            endpoint.set_dscp(dscp)
            assert priority(sock) == (6, service)

    @both
    async def test_a_closed_socket_cannot_be_marked(self, local: Address, open_udp: Opener) -> None:
        endpoint = open_udp(local)
        endpoint.close()
        with pytest.raises(TransportError, match="cannot mark packets") as caught:
            endpoint.set_dscp(46)
        assert caught.value.errno == errno.EBADF

    @both
    async def test_an_address_the_machine_has_not_got_yet(
        self, local: Address, open_udp: Opener
    ) -> None:
        endpoint = open_udp(ELSEWHERE[local])
        assert endpoint.local.host == ELSEWHERE[local].host
        assert endpoint.local.port > 0

    async def test_each_ip_version_has_its_own_ports(self, open_udp: Opener) -> None:
        endpoint = open_udp(Address("::", 0))
        assert open_udp(Address("0.0.0.0", endpoint.local.port)).local.port == endpoint.local.port


def priority(sock: socket.socket) -> tuple[int, int]:
    """The priority of the packets on this machine, and their type of service."""
    if sock.family == socket.AF_INET6:
        service = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    else:
        service = sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY), service


class TestBuffers:
    def sizes(self, sock: socket.socket) -> list[int]:
        return [
            sock.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)
        ]

    async def test_are_large_with_the_right_to_it(self, open_udp: Opener) -> None:
        try:
            endpoint = open_udp(V4, privileged=True)
        except TransportError as error:
            pytest.skip(str(error))
        # The kernel shows twice what was asked for.
        assert self.sizes(open_udp.socket(endpoint)) == [2 * SOCKET_BUFFER] * 2

    @pytest.mark.usefixtures("unprivileged")
    async def test_are_what_there_is_without(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(options, "SOCKET_BUFFER", IMPOSSIBLE)
        endpoint = open_udp(V4)
        sizes = self.sizes(open_udp.socket(endpoint))
        assert all(0 < size < IMPOSSIBLE for size in sizes)
        # Whoever opened it may say so.
        said = endpoint.small_buffers
        assert said is not None
        for part in (*(f"{size // 2} bytes" for size in sizes), "rmem_max", "wmem_max"):
            assert part in said

    async def test_that_are_as_wanted_are_nothing_to_speak_of(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Below what any system allows.
        monkeypatch.setattr(options, "SOCKET_BUFFER", 32 * 1024)
        assert open_udp(V4).small_buffers is None

    @pytest.mark.usefixtures("unprivileged")
    async def test_insisting_on_them_fails_and_says_what_to_do(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(options, "SOCKET_BUFFER", IMPOSSIBLE)
        with pytest.raises(TransportError, match=r"net\.core\.rmem_max") as caught:
            open_udp(V4, privileged=True)
        assert caught.value.errno == errno.ENAMETOOLONG
        assert "CAP_NET_ADMIN" in str(caught.value)
        assert "privileged=True" in str(caught.value)
        assert open_udp.left_open == 0


class TestOpening:
    @both
    async def test_port_0_takes_a_free_one(self, local: Address, open_udp: Opener) -> None:
        one, two = open_udp(local), open_udp(local)
        assert one.local.host == two.local.host == local.host
        assert 0 < one.local.port != two.local.port > 0

    @both
    async def test_an_address_in_use(self, local: Address, open_udp: Opener) -> None:
        endpoint = open_udp(local)
        with pytest.raises(TransportError) as caught:
            open_udp(endpoint.local)
        assert caught.value.errno == errno.EADDRINUSE
        assert f"cannot bind UDP {endpoint.local}: Address already in use" in str(caught.value)
        assert open_udp.left_open == 1
        endpoint.close()
        assert open_udp(endpoint.local).local == endpoint.local

    async def test_an_interface_that_is_not_there(self, open_udp: Opener) -> None:
        with pytest.raises(TransportError, match=r"cannot bind UDP \[fe80::1%nosuchif\]:0"):
            open_udp(Address("fe80::1%nosuchif", 0))

    async def test_no_socket_to_be_had(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: int) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr("knet_trio._transport.udp.socket.socket", refuse)
        with pytest.raises(TransportError, match="Too many open files") as caught:
            open_udp(V4)
        assert caught.value.errno == errno.EMFILE


class TestByName:
    def test_is_found_in_any_case(self) -> None:
        assert isinstance(find_transport("UDP"), UdpTransport)
        assert find_transport("udp") is TRANSPORTS["udp"]
        assert (find_transport("udp").header_size, find_transport("udp").transport_id) == (8, 1)

    def test_another_name(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"no transport 'carrier-pigeon'.*udp"):
            find_transport("carrier-pigeon")


class TestDatagrams:
    @both
    async def test_arrive_in_order_with_their_source(
        self, local: Address, open_udp: Opener
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        datagrams = [b"%d" % number for number in range(10)]
        assert one.send_nowait(datagrams, two.local) == 10
        assert await receive(two, 10) == [(datagram, one.local) for datagram in datagrams]
        assert two.send_nowait([b"back"], one.local) == 1
        assert await receive(one, 1) == [(b"back", two.local)]

    @both
    async def test_waits_for_the_first(
        self, local: Address, open_udp: Opener, nursery: trio.Nursery
    ) -> None:
        one, two = open_udp(local), open_udp(local)

        async def send() -> None:
            await wait_all_tasks_blocked()
            one.send_nowait([b"hello"], two.local)

        nursery.start_soon(send)
        assert await receive(two, 1) == [(b"hello", one.local)]

    async def test_each_receive_is_a_checkpoint_and_bounded(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        count = 3 * RECEIVE_CALLS
        for _ in range(count):
            assert one.send_nowait([b"x"], two.local) == 1
        sizes: list[int] = []
        with trio.fail_after(PATIENCE):
            while sum(sizes) < count:
                with assert_checkpoints():
                    sizes.append(len((await two.receive()).trains))
        assert max(sizes) == RECEIVE_CALLS

    async def test_no_more_bytes_at_once_than_can_be_worked_on(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        large, count = 60_000, 3 * RECEIVE_BYTES // 60_000
        assert one.send_nowait([bytes(large)] * count, two.local) == count
        sizes: list[int] = []
        with trio.fail_after(PATIENCE):
            while sum(sizes) < count * large:
                sizes.append(sum(len(train.data) for train in (await two.receive()).trains))
        assert max(sizes) <= RECEIVE_BYTES + large

    async def test_empty_and_large_ones(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        assert one.send_nowait([b"", bytes(65507)], two.local) == 2
        assert [len(data) for data, _ in await receive(two, 2)] == [0, 65507]

    async def test_large_ones_that_two_threads_receive_at_once(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program may have a Trio loop in each; while one calls the system, the other runs."""
        one, two = open_udp(V4), open_udp(V4)
        ones, twos = b"1" * 50_000, b"2" * 50_000
        for endpoint, datagram in ((one, ones), (two, twos)):
            # After a large one, the next is read in another way.
            assert endpoint.send_nowait([datagram] * 2, endpoint.local) == 2
        first = open_udp.socket(one)
        # The loop in the thread has sockets of its own.
        monkeypatch.setattr(socket, "socket", PlainSocket)
        in_thread: list[tuple[bytes, Address]] = []

        def run() -> None:
            in_thread.extend(trio.run(receive, two, 2))

        def recvmsg_into(sock: Socket, *arguments: Any) -> Any:
            received = PlainSocket.recvmsg_into(sock, *arguments)
            if sock is first and not in_thread:
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
            return received

        monkeypatch.setattr(Socket, "recvmsg_into", recvmsg_into, raising=False)
        assert await receive(one, 2) == [(ones, one.local)] * 2
        assert in_thread == [(twos, two.local)] * 2

    @both
    async def test_what_is_remembered_of_others_is_bounded(
        self, local: Address, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(udp, "_MOST_DESTINATIONS", 2)
        monkeypatch.setattr(udp_receiver, "_MOST_SOURCES", 2)
        one = open_udp(local)
        for other in [open_udp(local) for _ in range(5)] * 2:
            one.send_nowait([b"there"], other.local)
            other.send_nowait([b"back"], one.local)
            assert await receive(other, 1) == [(b"there", one.local)]
            assert await receive(one, 1) == [(b"back", other.local)]
            kept = vars(one)
            assert max(len(kept["_names"]), len(kept["_sources"])) <= 2

    async def test_nothing_to_send(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        assert one.send_nowait([], two.local) == 0

    async def test_cancelling_loses_nothing(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        one.send_nowait([b"hello"], two.local)
        with trio.CancelScope() as scope:
            scope.cancel()
            await two.receive()
        assert scope.cancelled_caught
        assert await receive(two, 1) == [(b"hello", one.local)]

    async def test_link_local_addresses_have_their_interface(self) -> None:
        with made_namespaces(1500) as pair:
            with pair.inside(0):
                one = open_plain(Address(pair.link_local(0, 0), 0))
            with pair.inside(1):
                two = open_plain(Address(pair.link_local(1, 0), 0))
            try:
                # The interface has the same name and index on both sides.
                with pair.inside(0):
                    assert one.local.host == "fe80::1%veth0"
                    received: list[tuple[bytes, Address]] = []
                    # What is sent before the new interfaces have found each other may be lost.
                    while not received:
                        one.send_nowait([b"hello"], two.local)
                        with trio.move_on_after(0.2):
                            received = await receive(two, 1)
                    # Of what was sent meanwhile, several may come at once.
                    assert set(received) == {(b"hello", one.local)}
            finally:
                one.close()
                two.close()


def open_plain(local: Address) -> UdpEndpoint:
    return UdpTransport().open_endpoint(local, privileged=False, high_priority=False, dscp=0)


@contextmanager
def made_namespaces(mtu: int) -> Generator[NamespacePair]:
    """Two namespaces; the test is skipped where they cannot be made."""
    missing = namespaces_missing()
    if missing is not None:
        pytest.skip(missing)
    with namespace_pair(1, mtu=mtu) as pair:
        yield pair


class TestFullSocket:
    """The loopback drops what is too much instead of refusing it, so the refusals are made up."""

    @pytest.mark.parametrize("taken", [0, 1, 3])
    async def test_says_how_many_it_took(self, taken: int, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        open_udp.socket(one).sends = [0] * taken + [errno.EAGAIN]
        # Each is larger than the one before, so they make no train.
        datagrams = [b"x" * i for i in range(5)]
        assert one.send_nowait(datagrams, two.local) == taken
        one.send_nowait([b"end"], two.local)
        got = [data for data, _ in await receive(two, taken + 1)]
        assert got == [*datagrams[:taken], b"end"]

    @pytest.mark.parametrize("taken", [0, 1, 3])
    async def test_says_how_many_it_took_of_those_in_parts(
        self, taken: int, open_udp: Opener
    ) -> None:
        one, two = open_udp(V4), open_udp(V4)
        open_udp.socket(one).sends = [errno.ECONNREFUSED] * (taken > 0) + [0] * taken
        open_udp.socket(one).sends += [errno.EAGAIN]
        datagrams = Parted([(b"head", memoryview(b"x" * size)) for size in range(5)])
        assert one.send_nowait(datagrams, two.local) == taken
        one.send_nowait([b"end"], two.local)
        got = [data for data, _ in await receive(two, taken + 1)]
        assert got == [*datagrams[:taken], b"end"]

    async def test_also_on_the_second_try(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [errno.ECONNREFUSED, errno.EAGAIN]
        assert one.send_nowait([b"a"], two.local) == 0
        sock.sends = [0, errno.ECONNREFUSED, errno.EAGAIN]
        assert one.send_nowait([b"a", b"bb"], two.local) == 1

    async def test_room_can_be_waited_for(self, open_udp: Opener) -> None:
        endpoint = open_udp(V4)
        with trio.fail_after(PATIENCE), assert_checkpoints():
            await endpoint.wait_sendable()


class TestTrains:
    @both
    async def test_datagrams_of_one_size_come_as_they_went(
        self, local: Address, open_udp: Opener
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        datagrams = [bytes([i]) * 100 for i in range(200)]
        assert one.send_nowait(datagrams, two.local) == 200
        assert await receive(two, 200) == [(datagram, one.local) for datagram in datagrams]

    @both
    async def test_large_ones_too(self, local: Address, open_udp: Opener) -> None:
        one, two = open_udp(local), open_udp(local)
        datagrams = [bytes([i]) * 30_000 for i in range(5)]
        assert one.send_nowait(datagrams, two.local) == 5
        assert await receive(two, 5) == [(datagram, one.local) for datagram in datagrams]

    @given(sizes=st.lists(st.integers(0, 2000), max_size=150))
    def test_whatever_the_sizes(self, sizes: list[int]) -> None:
        async def main() -> None:
            one, two = open_plain(V4), open_plain(V4)
            try:
                datagrams = [bytes([i % 251]) * size for i, size in enumerate(sizes)]
                assert one.send_nowait(datagrams, two.local) == len(sizes)
                got = await receive(two, len(sizes))
                assert got == [(datagram, one.local) for datagram in datagrams]
            finally:
                one.close()
                two.close()

        trio.run(main)

    async def test_one_call_takes_many(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        assert one.send_nowait([b"x" * 100] * 64, two.local) == 64
        assert open_udp.socket(one).calls == 1
        with trio.fail_after(PATIENCE):
            arrivals = await two.receive()
        assert [(len(train.data), train.size) for train in arrivals.trains] == [(6400, 100)]

    @pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE])
    async def test_one_that_is_refused_goes_singly(self, number: int, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [number]
        assert one.send_nowait([b"a", b"b", b"c"], two.local) == 3
        assert sock.calls == 4
        assert [data for data, _ in await receive(two, 3)] == [b"a", b"b", b"c"]

    async def test_where_all_are_refused_none_is_tried_any_more(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        for _ in range(3):
            sock.sends = [errno.EIO]
            assert one.send_nowait([b"a", b"b"], two.local) == 2
        assert sock.calls == 9
        assert one.send_nowait([b"a", b"b"], two.local) == 2
        assert sock.calls == 11

    async def test_a_single_refusal_is_forgotten(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        for _ in range(5):
            sock.sends = [errno.EIO]
            assert one.send_nowait([b"a", b"b"], two.local) == 2
            assert one.send_nowait([b"a", b"b"], two.local) == 2
        assert sock.calls == 5 * 4

    async def test_a_datagram_to_blame_shows_when_they_go_singly(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [errno.EPERM, 0, errno.EPERM]
        assert one.send_nowait([b"a", b"b", b"c"], two.local) == 1
        sock.sends = [errno.EPERM, errno.EPERM]
        with pytest.raises(PermissionError):
            one.send_nowait([b"b", b"c"], two.local)

    async def test_a_full_socket_takes_no_part_of_one(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [0, errno.EAGAIN]
        assert one.send_nowait([b"x"] * 100, two.local) == 64

    async def test_one_that_is_refused_meets_a_full_socket(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        open_udp.socket(one).sends = [errno.EIO, 0, errno.EAGAIN]
        assert one.send_nowait([b"a", b"b", b"c", b"d"], two.local) == 1

    async def test_a_kernel_without_offload(
        self, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Socket, "offload", False)
        one, two = open_udp(V4), open_udp(V4)
        for _ in range(5):
            assert one.send_nowait([b"a", b"b", b"c"], two.local) == 3
        assert [data for data, _ in await receive(two, 15)] == [b"a", b"b", b"c"] * 5


class TestRefusals:
    @pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
    async def test_the_first_one_is_raised(self, number: int, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [number]
        with pytest.raises(OSError, match=os.strerror(number)):
            one.send_nowait([b"a"], two.local)
        sock.sends = [0, number, number]
        assert one.send_nowait([b"a", b"bb"], two.local) == 1
        with pytest.raises(OSError, match=os.strerror(number)):
            one.send_nowait([b"b"], two.local)

    @pytest.mark.parametrize(
        "number",
        [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE, errno.ENONET],
    )
    async def test_what_may_be_of_an_earlier_datagram_is_tried_again(
        self, number: int, open_udp: Opener
    ) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [number, 0, 0, number, 0]
        assert one.send_nowait([b"a", b"b", b"c"], two.local) == 3
        assert [data for data, _ in await receive(two, 3)] == [b"a", b"b", b"c"]
        sock.sends = [number, number]
        with pytest.raises(OSError, match=os.strerror(number)):
            one.send_nowait([b"a"], two.local)

    async def test_too_large_for_any_packet(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        with pytest.raises(OSError, match="Message too long") as caught:
            one.send_nowait([bytes(65508)], two.local)
        assert caught.value.errno == errno.EMSGSIZE
        assert one.send_nowait([b"a", bytes(65508), b"b"], two.local) == 1
        assert await receive(two, 1) == [(b"a", one.local)]


def is_drained(endpoint: UdpEndpoint) -> bool:
    return endpoint.drained


class TestDrained:
    """Whether all that has arrived was taken and worked on."""

    @both
    async def test_what_has_arrived_is_taken_and_then_worked_on(
        self, local: Address, open_udp: Opener, nursery: trio.Nursery
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        assert is_drained(one)
        two.send_nowait([b"hello"], one.local)
        assert not is_drained(one)
        assert await receive(one, 1) == [(b"hello", two.local)]
        # Whoever took it comes back for more when it has been worked on.
        assert not is_drained(one)
        nursery.start_soon(one.receive)
        await wait_all_tasks_blocked()
        assert is_drained(one)
        nursery.cancel_scope.cancel()

    @both
    async def test_errors_are_nothing_that_has_arrived(
        self, local: Address, open_udp: Opener
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        nobody = open_udp.free_address(local)
        one.send_nowait([b"lost"], nobody)
        assert is_drained(one)
        # They are not lost by looking.
        assert await receive_troubles(one) == [
            PathTrouble(nobody, errno.ECONNREFUSED, None, local=False)
        ]
        one.send_nowait([b"lost"], nobody)
        two.send_nowait([b"hello"], one.local)
        assert not is_drained(one)

    async def test_what_is_closed_has_nothing_to_read(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        two.send_nowait([b"hello"], one.local)
        one.close()
        assert is_drained(one)


class TestTrouble:
    @both
    async def test_nobody_listens(self, local: Address, open_udp: Opener) -> None:
        endpoint = open_udp(local)
        nobody = open_udp.free_address(local)
        endpoint.send_nowait([b"hello"], nobody)
        assert await receive_troubles(endpoint) == [
            PathTrouble(nobody, errno.ECONNREFUSED, None, local=False)
        ]
        assert endpoint.troubles() == []

    @both
    async def test_destinations_are_told_apart(self, local: Address, open_udp: Opener) -> None:
        one, two = open_udp(local), open_udp(local)
        held = [open_udp(local), open_udp(local)]
        for endpoint in held:
            endpoint.close()
        for endpoint in held:
            one.send_nowait([b"lost"], endpoint.local)
        troubles: list[PathTrouble] = []
        while len(troubles) < 2:
            troubles += await receive_troubles(one)
        assert [trouble.destination for trouble in troubles] == [e.local for e in held]
        one.send_nowait([b"hello"], two.local)
        assert await receive(two, 1) == [(b"hello", one.local)]

    @both
    async def test_what_an_earlier_datagram_met_stops_no_later_one(
        self, local: Address, open_udp: Opener
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        nobody = open_udp.free_address(local)
        for _ in range(5):
            one.send_nowait([b"lost"], nobody)
            assert one.send_nowait([b"a", b"b"], two.local) == 2
        assert len(await receive(two, 10)) == 10

    @both
    @pytest.mark.parametrize("read_by_a_sender", [False, True])
    async def test_comes_after_all_that_had_arrived(
        self, local: Address, read_by_a_sender: bool, open_udp: Opener
    ) -> None:
        one, two = open_udp(local), open_udp(local)
        nobody = open_udp.free_address(local)
        count = 3 * RECEIVE_CALLS
        one.send_nowait([b"lost"], nobody)
        for _ in range(count):
            two.send_nowait([b"x"], one.local)
        if read_by_a_sender:
            assert one.troubles() == []
        arrived = 0
        with trio.fail_after(PATIENCE):
            while not (arrivals := await one.receive()).troubles:
                arrived += len(arrivals.trains)
        assert arrived + len(arrivals.trains) == count
        assert [trouble.destination for trouble in arrivals.troubles] == [nobody]

    @both
    @pytest.mark.parametrize("datagrams", [[], [b"a"], [b"a", b"b"]])
    async def test_comes_with_what_has_arrived_and_is_not_put_off_by_it(
        self, local: Address, datagrams: list[bytes], open_udp: Opener
    ) -> None:
        """Or a peer would be thought gone that was not there at first, and has answered since."""
        one, two = open_udp(local), open_udp(local)
        nobody = open_udp.free_address(local)
        one.send_nowait([b"lost"], nobody)
        # That is told of it, so that receiving is not.
        one.send_nowait(datagrams, two.local)
        two.send_nowait([b"here I am"], one.local)
        with trio.fail_after(PATIENCE):
            arrivals = await one.receive()
        assert [train.data for train in arrivals.trains] == [b"here I am"]
        assert [trouble.destination for trouble in arrivals.troubles] == [nobody]

    @both
    async def test_what_a_sender_read_wakes_who_receives(
        self, local: Address, open_udp: Opener, nursery: trio.Nursery
    ) -> None:
        endpoint = open_udp(local)
        nobody = open_udp.free_address(local)
        reported: list[PathTrouble] = []

        async def wait() -> None:
            reported.extend(await receive_troubles(endpoint))

        async def wait_sendable() -> None:
            # It is told of nothing.
            await endpoint.wait_sendable()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        nursery.start_soon(wait_sendable)
        # In one turn, so that the kernel's wake-up is for nothing.
        endpoint.send_nowait([b"lost"], nobody)
        assert endpoint.troubles() == []
        with trio.fail_after(PATIENCE):
            while not reported:
                await trio.lowlevel.checkpoint()
        assert [trouble.destination for trouble in reported] == [nobody]

    @both
    async def test_a_flood_keeps_it_for_as_long_as_what_a_buffer_holds(
        self, local: Address, open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size, buffer = 1000, 100_000
        monkeypatch.setattr(options, "SOCKET_BUFFER", buffer)
        one, two = open_udp(local), open_udp(local)
        nobody = open_udp.free_address(local)
        # Nothing else comes in a wake-up than what the test sends for it, and one more.
        full = [bytes(size)] * 40
        two.send_nowait(full, one.local)
        one.send_nowait([b"lost"], nobody)
        arrived = 0
        with trio.fail_after(PATIENCE):
            while True:
                for datagram in [bytes([i]) * (size + i) for i in range(RECEIVE_CALLS)]:
                    two.send_nowait([datagram], one.local)
                arrivals = await one.receive()
                if arrivals.troubles:
                    break
                arrived += sum(len(train.data) for train in arrivals.trains)
                assert arrived < 4 * buffer
        assert arrived > buffer
        assert [trouble.destination for trouble in arrivals.troubles] == [nobody]

    @pytest.mark.parametrize("ipv6", [False, True])
    @pytest.mark.parametrize("flood", [0, 2 * RECEIVE_CALLS])
    async def test_the_kernel_says_what_would_have_gone(self, ipv6: bool, flood: int) -> None:
        with made_namespaces(1400) as pair, ExitStack() as stack:
            address = pair.v6 if ipv6 else pair.v4
            headers = 48 if ipv6 else 28
            with pair.inside(0):
                one, two = [open_plain(parse_address(address(0, 0), 0)) for _ in range(2)]
            with pair.inside(1):
                # Somebody listens, so that the size is the only trouble.
                there = open_plain(parse_address(address(1, 0), 0))
            for endpoint in (one, two, there):
                stack.callback(endpoint.close)
            destination = there.local
            for _ in range(flood):
                assert two.send_nowait([b"x"], one.local) == 1
            assert one.send_nowait([bytes(1400 - headers)], destination) == 1
            with pytest.raises(OSError, match="Message too long"):
                one.send_nowait([bytes(1401 - headers)], destination)
            # It does not wait for what there is to be received.
            troubles = one.troubles()
            assert {(t.mtu, t.local, t.concerns(destination)) for t in troubles} == {
                (1400, True, True)
            }
            assert not any(t.concerns(one.local) for t in troubles)


class TestClosing:
    @both
    async def test_wakes_who_receives(self, local: Address, open_udp: Opener) -> None:
        endpoint = open_udp(local)
        woken = False

        async def wait() -> None:
            nonlocal woken
            with pytest.raises(trio.ClosedResourceError):
                await endpoint.receive()
            woken = True

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                endpoint.close()
        assert woken
        assert open_udp.left_open == 0

    async def test_twice_is_once(self, open_udp: Opener) -> None:
        endpoint = open_udp(V4)
        endpoint.close()
        endpoint.close()

    async def test_afterwards_nothing_is_received(self, open_udp: Opener) -> None:
        endpoint = open_udp(V4)
        endpoint.close()
        with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await endpoint.receive()

    async def test_nor_sent(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            one.send_nowait([b"x"], two.local)
        with pytest.raises(OSError, match="Bad file descriptor"):
            one.troubles()
