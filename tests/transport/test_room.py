"""What does not fit: buffers, and queues behind them."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from knet_trio._transport import offload
from knet_trio._transport.udp import UdpEndpoint
from knet_trio.address import Address
from tests.interop.namespaces import NamespacePair
from tests.transport.conftest import Opener
from tests.transport.test_udp import PATIENCE, V4, both, made_namespaces, open_plain, receive

SIZE = 1400


class TestBacklog:
    @both
    async def test_an_empty_buffer(self, local: Address, open_udp: Opener) -> None:
        endpoint = open_udp(local)
        assert endpoint.backlog == 0.0
        endpoint.close()
        assert endpoint.backlog == 0.0

    async def test_a_way_that_takes_nothing_fills_it(self) -> None:
        with slow(rate="8bit", limit=10**8) as (one, two, pair):
            backlogs = [one.backlog]
            taken = 0
            while one.send_nowait([bytes(SIZE)] * 64, two.local):
                taken += 64
                backlogs.append(one.backlog)
            assert backlogs == sorted(backlogs)
            assert backlogs[0] == 0.0
            assert backlogs[-1] > 0.9
            assert one.send_nowait([b"x"], two.local) == 0
            # One for that peer alone has a buffer of its own.
            with pair.inside(0):
                connected = one.connect(two.local)
            assert connected is not None
            try:
                assert connected.backlog == 0.0
                assert connected.send_nowait([bytes(SIZE)] * 64, two.local) == 64
                assert 0.0 < connected.backlog < 1.0
            finally:
                connected.close()

            async def wait() -> None:
                with trio.fail_after(PATIENCE):
                    await one.wait_sendable()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                # What waits is given up, so there is room.
                pair.run(0, "tc", "qdisc", "delete", "dev", "veth0", "root")
            assert one.backlog < 1.0
            assert one.send_nowait([b"x"], two.local) == 1


class TestNoBuffers:
    """ENOBUFS: a queue behind the send buffer is full."""

    async def test_of_the_first_is_raised(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [errno.ENOBUFS]
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)) as caught:
            one.send_nowait([b"a"], two.local)
        assert caught.value.errno == errno.ENOBUFS
        # A train, and its first.
        sock.sends = [errno.ENOBUFS, errno.ENOBUFS]
        with pytest.raises(OSError, match=os.strerror(errno.ENOBUFS)):
            one.send_nowait([b"a", b"b"], two.local)

    async def test_else_those_taken_are_counted(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        sock.sends = [errno.ENOBUFS, 0, 0, errno.ENOBUFS]
        assert one.send_nowait([b"a", b"b", b"c", b"d"], two.local) == 2
        assert [data for data, _ in await receive(two, 2)] == [b"a", b"b"]

    @pytest.mark.parametrize("sends", [[errno.ENOBUFS], [0, errno.ENOBUFS, errno.ENOBUFS]])
    async def test_there_are_no_trains_to_that_destination_for_a_while(
        self, sends: list[int], open_udp: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        one, two, other = (open_udp(V4) for _ in range(3))
        sock = open_udp.socket(one)
        train = [b"x"] * 4

        def calls(destination: Address) -> int:
            before = sock.calls
            assert one.send_nowait(train, destination) == 4
            return sock.calls - before

        sock.sends = list(sends)
        one.send_nowait([b"x"] * 100, two.local)
        assert calls(two.local) == 4
        assert calls(other.local) == 1
        now += offload.CROWDED - 1
        sock.sends = [0, 0, errno.ENOBUFS]
        assert one.send_nowait(train, two.local) == 2
        # It goes on from there.
        now += offload.CROWDED - 1
        assert calls(two.local) == 4
        now += 1
        assert calls(two.local) == 1

    async def test_it_is_not_that_there_are_no_trains_at_all(self, open_udp: Opener) -> None:
        one, other = open_udp(V4), open_udp(V4)
        sock = open_udp.socket(one)
        for _ in range(10):
            sock.sends = [errno.ENOBUFS]
            assert one.send_nowait([b"a", b"b"], open_udp(V4).local) == 2
        before = sock.calls
        assert one.send_nowait([b"a", b"b"], other.local) == 2
        assert sock.calls - before == 1

    async def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(offload, "_MOST_CROWDED", 3)
        crowded = offload.Crowded()
        addresses = [Address("10.0.0.1", port) for port in range(10)]
        for address in addresses:
            crowded.add(address)
        assert addresses[-1] in crowded
        assert sum(address in crowded for address in addresses) <= 3

    async def test_all_that_was_taken_arrives_then(self) -> None:
        with slow(rate="10mbit", limit=20 * SIZE) as (one, two, _):
            # Of trains the kernel may drop a part at first.
            with pytest.raises(OSError, match="No buffer space"):
                while True:
                    one.send_nowait([bytes(SIZE)] * 64, two.local)
            marked = [bytes([i + 1]) * SIZE for i in range(200)]
            got: list[bytes] = []

            async def take() -> None:
                while not got or got[-1] != marked[-1]:
                    got.extend(data for data, _ in await receive(two, 1) if any(data))

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take)
                    rest = marked
                    while rest:
                        try:
                            rest = rest[one.send_nowait(rest, two.local) :]
                        except OSError as error:
                            if error.errno != errno.ENOBUFS:
                                raise
                        await trio.sleep(0.005)
            assert got == marked


@contextmanager
def slow(
    *, rate: str, limit: int
) -> Generator[tuple[UdpEndpoint, UdpEndpoint, NamespacePair], None, None]:
    """Two sockets, and a way from the first to the second that is slow and queues so many bytes."""
    with made_namespaces(1500) as pair:
        shape = ("tbf", "rate", rate, "burst", "4kb", "limit", str(limit))
        pair.run(0, "tc", "qdisc", "add", "dev", "veth0", "root", *shape)
        with pair.inside(0):
            one = open_plain(Address(pair.v4(0, 0), 0))
        with pair.inside(1):
            two = open_plain(Address(pair.v4(1, 0), 0))
        try:
            yield one, two, pair
        finally:
            one.close()
            two.close()
