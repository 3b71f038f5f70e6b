"""Protocols that know nothing of knet_trio run on its streams: HTTP/1.1 by ``h11``, and TLS."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, TypeAlias

import attrs
import h11
import pytest
import trio
import trustme

from knet_trio.streams import HostStream, Streams, open_streams
from knet_trio.testing import Conditions, SimulatedNetwork
from tests.cluster import PATIENCE, open_pair
from tests.streams.http11 import Connection, ask, nothing, serve
from tests.streams.pairs import CHANNEL, connect, open_stream_pair, simulate

MIB = 1 << 20
BODY = random.Random(1).randbytes(4 * MIB)


@attrs.frozen
class Ground:
    """Two hosts over two links.

    Attributes:
        alpha: Streams of host 1.
        beta: Streams of host 2.
        pull: Pulls the cable that data goes over.
        body: What there is to send: simulated packets take long to send.
    """

    alpha: Streams
    beta: Streams
    pull: Callable[[], None]
    body: bytes = BODY


Scenario: TypeAlias = Callable[[Ground], Awaitable[None]]


async def on_udp(scenario: Scenario) -> None:
    """Run it over real sockets."""
    with trio.fail_after(PATIENCE):
        async with (
            open_pair(links=2) as pair,
            open_streams(pair.a, channel=CHANNEL) as alpha,
            open_streams(pair.b, channel=CHANNEL) as beta,
        ):

            def pull() -> None:
                # Neither side sends anything there any more.
                pair.a.get_host(2).links[0].enabled = False
                pair.b.get_host(1).links[0].enabled = False

            await scenario(Ground(alpha, beta, pull))


def on_simulated_network(scenario: Scenario) -> None:
    """Run it in simulated time, on a network that takes 5 MB a second."""

    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair(links=2) as pair:
            network.conditions = Conditions(latency=0.001, rate=5_000_000)

            def pull() -> None:
                # Nobody is told: it is found out by the pings.
                network.cut("10.0.0.1", "10.0.0.2")

            await scenario(Ground(pair.alpha, pair.beta, pull, BODY[:MIB]))

    simulate(main)


# HTTP.


@asynccontextmanager
async def serving(
    ground: Ground, handler: Callable[[HostStream], Awaitable[object]]
) -> AsyncGenerator[HostStream]:
    """A stream to beta, which serves such streams by ``handler``."""
    async with trio.open_nursery() as nursery, ground.beta.listener() as listener:
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield await ground.alpha.connect(2)
        nursery.cancel_scope.cancel()


async def keep_alive(ground: Ground) -> None:
    """Several requests over one stream, the last of which closes it."""
    async with serving(ground, serve) as stream, stream:
        connection = Connection(stream, h11.CLIENT)
        for number, body in enumerate((b"", b"abc", ground.body, b"", ground.body[:99_999])):
            assert await ask(connection, f"/{number}", body) == body[::-1]
        assert await ask(connection, "/last", b"xyz", close=True) == b"zyx"
        assert await stream.receive_some() == b""


async def client_closes(ground: Ground) -> None:
    """The client ends a connection without a word, and another one works."""
    ends = trio.Event()

    async def serve_one(stream: HostStream) -> None:
        await serve(stream)
        ends.set()

    async with serving(ground, serve_one) as first:
        assert await ask(Connection(first, h11.CLIENT), "/first", b"abc") == b"cba"
        await first.aclose()
        await ends.wait()
        async with await ground.alpha.connect(2) as second:
            assert await ask(Connection(second, h11.CLIENT), "/second", b"abc") == b"cba"


async def http_while_a_cable_is_pulled(
    direction: Literal["question", "answer"], ground: Ground
) -> None:
    pulled = list[str]()

    def pull() -> None:
        if not pulled:
            pulled.append(direction)
            ground.pull()

    pulls_here, pulls_there = (pull, nothing) if direction == "question" else (nothing, pull)
    async with serving(ground, partial(serve, halfway=pulls_there)) as stream, stream:
        connection = Connection(stream, h11.CLIENT)
        for number in range(2):
            answer = await ask(connection, f"/{number}", ground.body, halfway=pulls_here)
            assert answer == ground.body[::-1]
            assert pulled == [direction]


HTTP: list[Scenario] = [
    keep_alive,
    client_closes,
    partial(http_while_a_cable_is_pulled, "question"),
    partial(http_while_a_cable_is_pulled, "answer"),
]


@pytest.mark.parametrize("scenario", HTTP, ids=["keep-alive", "close", "question", "answer"])
def test_http_on_a_simulated_network(scenario: Scenario) -> None:
    on_simulated_network(scenario)


@pytest.mark.parametrize("scenario", HTTP, ids=["keep-alive", "close", "question", "answer"])
async def test_http_over_udp(scenario: Scenario) -> None:
    await on_udp(scenario)


# TLS.

TLS: TypeAlias = "trio.SSLStream[HostStream]"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a client that asks for a certificate of beta, and of a server that has it."""
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("beta.example").configure_cert(server)
    return client, server


async def wrap(ground: Ground, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TLS, TLS]:
    """Both ends of a stream with TLS, after their handshake."""
    async with ground.beta.listener() as listener:
        here, there = await ground.alpha.connect(2), await listener.accept()
    client = trio.SSLStream(here, contexts[0], server_hostname="beta.example")
    server = trio.SSLStream(there, contexts[1], server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def send(stream: TLS, data: bytes, halfway: Callable[[], None]) -> None:
    """Send all of it, in pieces of an odd size."""
    size = 100_003
    for start in range(0, len(data), size):
        if start <= len(data) // 2 < start + size:
            halfway()
        await stream.send_all(data[start : start + size])


async def expect(stream: TLS | HostStream, data: bytes) -> None:
    """Receive ``data``, and nothing after it."""
    got = bytearray()
    while len(got) < len(data):
        part = await stream.receive_some()
        assert part
        got += part
    assert got == data


async def exchange(
    client: TLS, server: TLS, body: bytes, halfway: Callable[[], None] = nothing
) -> None:
    """Send it both ways at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, client, body, halfway)
        nursery.start_soon(send, server, body[::-1], nothing)
        nursery.start_soon(expect, server, body)
        nursery.start_soon(expect, client, body[::-1])


async def close(client: TLS, server: TLS) -> None:
    """Close one side, then the other."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
        await server.aclose()
    for stream in (client, server):
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"more")


async def tls_both_ways(contexts: tuple[ssl.SSLContext, ssl.SSLContext], ground: Ground) -> None:
    client, server = await wrap(ground, contexts)
    assert client.version() == server.version() == "TLSv1.3"
    await exchange(client, server, ground.body)
    await close(client, server)


async def tls_unwrapped(contexts: tuple[ssl.SSLContext, ssl.SSLContext], ground: Ground) -> None:
    """TLS ends, and what is under it goes on."""
    client, server = await wrap(ground, contexts)
    await exchange(client, server, ground.body)
    bare: dict[str, HostStream] = {}

    async def unwrap(name: str, stream: TLS) -> None:
        transport, rest = await stream.unwrap()
        assert isinstance(transport, HostStream)
        assert not rest
        bare[name] = transport

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unwrap, "client", client)
        nursery.start_soon(unwrap, "server", server)
    async with bare["client"], bare["server"]:
        await bare["client"].send_all(b"in the clear")
        await expect(bare["server"], b"in the clear")
        await bare["server"].send_eof()
        assert await bare["client"].receive_some() == b""


async def tls_while_a_cable_is_pulled(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], ground: Ground
) -> None:
    client, server = await wrap(ground, contexts)
    await exchange(client, server, ground.body, halfway=ground.pull)
    await exchange(server, client, ground.body)
    await close(client, server)


async def https(contexts: tuple[ssl.SSLContext, ssl.SSLContext], ground: Ground) -> None:
    """One protocol on the other, served as Trio serves TLS."""
    async with trio.open_nursery() as nursery, ground.beta.listener() as listener:
        secure = trio.SSLListener(listener, contexts[1])
        nursery.start_soon(trio.serve_listeners, serve, [secure])
        here = await ground.alpha.connect(2)
        async with trio.SSLStream(here, contexts[0], server_hostname="beta.example") as stream:
            connection = Connection(stream, h11.CLIENT)
            answer = await ask(connection, "/first", ground.body, halfway=ground.pull)
            assert answer == ground.body[::-1]
            assert await ask(connection, "/last", b"xyz", close=True) == b"zyx"
        nursery.cancel_scope.cancel()


async def tls_to_the_wrong_host(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], ground: Ground
) -> None:
    async with ground.beta.listener() as listener:
        here, there = await ground.alpha.connect(2), await listener.accept()
    client = trio.SSLStream(here, contexts[0], server_hostname="gamma.example")
    server = trio.SSLStream(there, contexts[1], server_side=True)

    async def serve_nobody() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
        await trio.aclose_forcefully(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_nobody)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.do_handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        await trio.aclose_forcefully(client)


TLS_SCENARIOS = [
    tls_both_ways,
    tls_unwrapped,
    tls_while_a_cable_is_pulled,
    https,
    tls_to_the_wrong_host,
]
TlsScenario: TypeAlias = Callable[[tuple[ssl.SSLContext, ssl.SSLContext], Ground], Awaitable[None]]


@pytest.mark.parametrize("scenario", TLS_SCENARIOS)
def test_tls_on_a_simulated_network(
    scenario: TlsScenario, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    on_simulated_network(partial(scenario, contexts))


@pytest.mark.parametrize("scenario", TLS_SCENARIOS)
async def test_tls_over_udp(
    scenario: TlsScenario, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    await on_udp(partial(scenario, contexts))


# When the last cable is pulled too.


def test_both_protocols_are_told_when_no_link_is_left(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async def main(network: SimulatedNetwork) -> None:
        async with open_stream_pair(links=1, patience=5) as pair:
            network.conditions = Conditions(latency=0.001, rate=5_000_000)
            ground = Ground(pair.alpha, pair.beta, partial(network.cut, "10.0.0.1", "10.0.0.2"))
            plain, _ = await connect(pair)
            client, server = await wrap(ground, contexts)
            started = trio.current_time()

            async def fail_by_http() -> None:
                connection = Connection(plain, h11.CLIENT)
                with pytest.raises(trio.BrokenResourceError, match="host 2 has not answered"):
                    await ask(connection, "/", BODY)

            async def fail_by_tls(stream: TLS) -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_by_http)
                nursery.start_soon(fail_by_tls, client)
                nursery.start_soon(fail_by_tls, server)
                await trio.sleep(0.1)
                ground.pull()
            assert 5 < trio.current_time() - started < 7

    simulate(main)
