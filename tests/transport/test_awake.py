"""After many arrivals that were close, the next is awaited awake, for a while."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from knet_trio._transport.udp import AWAKE_AFTER, CLOSE, UdpEndpoint
from knet_trio.address import Address
from tests.transport.conftest import Opener
from tests.transport.test_udp import PATIENCE, V4, receive


class TestAwake:
    async def warm(self, one: UdpEndpoint, two: UdpEndpoint) -> None:
        # A machine that is busy otherwise may be slow once.
        with trio.fail_after(PATIENCE):
            while not two.is_awake:
                one.send_nowait([b"x"], two.local)
                await two.receive()

    async def test_what_comes_is_received(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        await self.warm(one, two)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    await trio.lowlevel.checkpoint()
                    one.send_nowait([b"hello"], two.local)

                nursery.start_soon(send)
                with assert_checkpoints():
                    assert await receive(two, 1) == [(b"hello", one.local)]

    async def test_it_falls_asleep_and_has_to_be_woken_as_often_again(
        self, open_udp: Opener, nursery: trio.Nursery
    ) -> None:
        one, two = open_udp(V4), open_udp(V4)
        await self.warm(one, two)
        got: list[tuple[bytes, Address]] = []

        async def wait() -> None:
            got.extend(await receive(two, 1))

        nursery.start_soon(wait)
        with trio.fail_after(PATIENCE):
            await wait_all_tasks_blocked()
            assert not two.is_awake
            one.send_nowait([b"hello"], two.local)
            while not got:
                await trio.lowlevel.checkpoint()
        assert got == [(b"hello", one.local)]
        assert not two.is_awake

    @pytest.mark.parametrize("datagrams", [[b"x"] * 2, [b"x", b"yy"]])
    async def test_a_stream_is_slept_for(self, datagrams: list[bytes], open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        for _ in range(5 * AWAKE_AFTER):
            one.send_nowait(datagrams, two.local)
            await receive(two, 2)
            assert not two.is_awake

    async def test_closing_ends_it(self, open_udp: Opener, nursery: trio.Nursery) -> None:
        one, two = open_udp(V4), open_udp(V4)
        await self.warm(one, two)

        async def close() -> None:
            await trio.lowlevel.checkpoint()
            two.close()

        nursery.start_soon(close)
        with trio.fail_after(PATIENCE), pytest.raises(trio.ClosedResourceError):
            while True:
                await two.receive()

    async def test_a_pause_ends_it(self, open_udp: Opener) -> None:
        one, two = open_udp(V4), open_udp(V4)
        await self.warm(one, two)
        await trio.sleep(2 * CLOSE)
        one.send_nowait([b"x"], two.local)
        await receive(two, 1)
        assert not two.is_awake
