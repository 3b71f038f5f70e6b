"""The programs in ``examples/`` do what they say, as processes of their own."""

from __future__ import annotations

import ast
import hashlib
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import h11
import pytest
import trio

from knet_trio.control import ControlRequestError, connect_control
from tests.cluster import KEY, PATIENCE
from tests.cluster.files import write_key
from tests.ports import free_udp_port
from tests.programs import EXAMPLES, Program, output, started
from tests.streams import http11

ROOT = Path(__file__).parents[1]
# Those that are shown where namespaces can be made.
ELSEWHERE = {"tap.py"}


def test_every_example_has_its_test_and_says_how_to_run_it() -> None:
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name in ELSEWHERE or f'"{path.name}"' in tested
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said is not None
        assert f"examples/{path.name}" in said


@attrs.frozen
class Addresses:
    """Of two hosts, as the examples take them."""

    key: Path
    first: tuple[str, str]
    second: tuple[str, str]


@pytest.fixture
def addresses(tmp_path: Path) -> Addresses:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    port = free_udp_port("127.0.0.1", "127.0.0.2")
    hosts = f"1=127.0.0.1:{port}", f"2=127.0.0.2:{port}"
    return Addresses(key, hosts, (hosts[1], hosts[0]))


async def test_hello() -> None:
    assert await output("hello.py") == "host 1 says 'hello, beta' on channel 0\n"


async def test_copy_file(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(random.randbytes(20_000_000))
    said = await output("copy_file.py", str(source), str(copy))
    assert said == f"copied {source} to {copy}, over what was left\n"
    assert copy.read_bytes() == source.read_bytes()


async def test_with_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = await trio.run_process(
        [*command, f"--rootdir={EXAMPLES}", "-c", os.devnull, EXAMPLES / "test_with_pytest.py"],
        capture_stdout=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert b"6 passed" in done.stdout


async def test_my_cluster() -> None:
    assert await output("test_my_cluster.py") == "the cluster counts right\n"


async def test_watch() -> None:
    said = await output("watch.py")
    assert "link 0 to host 2 is up" in said
    assert "host 2 is unreachable" in said


async def test_serve_control(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    async with started("serve_control.py", path) as program:
        await program.line(r"^process \d+ serves host 1$")
        await program.line("^link 1 to peer is up: the peer answers pings$")
        await program.line("^reloaded: {'links': 2}$")
        async with connect_control(path) as client:
            with pytest.raises(ControlRequestError, match="reload takes ping_interval"):
                await client.reload()
            (host,) = (await client.status()).hosts
            assert [link.ping_interval for link in host.links] == [0.5, 0.5]
        program.signal(signal.SIGTERM)
        assert await program.status() == 0
        assert "Traceback" not in program.said
    assert not path.exists()


async def test_threads() -> None:
    expected = [
        f"{password}: "
        + hashlib.scrypt(password.encode(), salt=b"of the earth", n=2**14, r=8, p=1)[:8].hex()
        for password in ("12345", "battery staple", "correct horse", "swordfish")
    ]
    # There are two workers, so the order is anyone's guess.
    assert sorted((await output("threads.py")).splitlines()) == expected


async def test_with_anyio() -> None:
    assert await output("with_anyio.py") == (
        "who wants to know what?\nno answer to where?\nwho wants to know why?\n"
    )


async def test_cluster(tmp_path: Path) -> None:
    text = (EXAMPLES / "lab.toml").read_text()
    ports = [free_udp_port(*(f"127.0.{link}.{host}" for host in (1, 2, 3))) for link in range(2)]
    for link, port in enumerate(ports):
        text = re.sub(rf'"(127\.0\.{link}\.\d)"', rf'"\1:{port}"', text)
    path = tmp_path / "lab.toml"
    path.write_text(text)
    write_key(tmp_path / "lab.key")
    async with (
        started("cluster.py", path, "alpha") as alpha,
        started("cluster.py", path, "beta") as beta,
    ):
        await alpha.line("^beta says hello$")
        await beta.line("^alpha says hello$")
        path.write_text(text.replace("pong_count = 2", "pong_count = 3\nprioritty = 1"))
        alpha.signal(signal.SIGHUP)
        await alpha.line("cluster.links.prioritty: .* did you mean priority?")
        path.write_text(text.replace("pong_count = 2", "pong_count = 3"))
        alpha.signal(signal.SIGHUP)
        await alpha.line(r"^hosts\.2\.links\.0\.pong_count: 3, it was 2$")
        alpha.signal(signal.SIGINT)
        beta.signal(signal.SIGTERM)
        assert (await alpha.status(), await beta.status()) == (0, 0)
        assert "Traceback" not in alpha.said + beta.said


# A daemon.


async def test_a_service_ends_by_a_signal_after_its_last_message(addresses: Addresses) -> None:
    async with (
        started("service.py", addresses.key, *addresses.first) as first,
        started("service.py", addresses.key, *addresses.second) as second,
    ):
        await first.line(r"^host 2: load \d+\.\d\d$")
        await second.line(r"^host 1: load \d+\.\d\d$")
        first.signal(signal.SIGTERM)
        await second.line("^host 1: goodbye$")
        assert await first.status() == 0
        assert "host 1 ends: SIGTERM\n" in first.said
        second.signal(signal.SIGINT)
        assert await second.status() == 0
        assert "host 2 ends: SIGINT\n" in second.said
        assert "Traceback" not in first.said + second.said


async def test_a_service_that_cannot_run_says_why(addresses: Addresses) -> None:
    host, peer = addresses.first
    _, port = host.split(":")
    for key, me, reason in (
        (addresses.key, "1=127.0.0.x:5405", "'127.0.0.x' is not an IP address"),
        (addresses.key.with_name("nothing"), host, "No such file"),
        (addresses.key, host, "Address already in use"),
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", int(port)))
            async with started("service.py", key, me, peer) as program:
                await program.line(f"^error: .*{reason}")
                assert await program.status() == 1
                assert "Traceback" not in program.said


# A key-value store.


class Stores:
    """Hosts 1 to 4 of the key-value store, of which 4 has no copy."""

    def __init__(self, key: Path) -> None:
        self._key = key
        port = free_udp_port(*(f"127.0.0.{host_id}" for host_id in range(1, 5)))
        self._hosts = [f"{host_id}=127.0.0.{host_id}:{port}" for host_id in range(1, 5)]

    @asynccontextmanager
    async def start(self, host_id: int) -> AsyncGenerator[Program]:
        me = self._hosts[host_id - 1]
        peers = [host for host in self._hosts if host != me]
        async with started("key_value.py", self._key, me, *peers, "--copies", 1, 2, 3) as program:
            yield program


async def say_until(program: Program, command: str, pattern: str) -> None:
    """Say something until the answer is as it should be: hosts have to find out what is new."""
    with trio.fail_after(PATIENCE):
        while True:
            await program.say(command)
            answer = (await program.line(r"^colour is .*|^\w+Error: .*"))[0]
            if re.search(pattern, answer):
                return
            await trio.sleep(0.1)


async def test_a_key_value_store_of_which_copies_are_killed(addresses: Addresses) -> None:
    stores = Stores(addresses.key)
    async with stores.start(1) as first, stores.start(4) as fourth:
        async with stores.start(2) as second:
            async with stores.start(3) as third:
                await say_until(first, "set colour deep red", "^colour is set$")
                await say_until(third, "get colour", "^colour is 'deep red'$")
                third.signal(signal.SIGKILL)
                await third.status()
            await say_until(fourth, "set colour blue", "^colour is set$")
            await say_until(second, "get colour", "^colour is 'blue'$")
            second.signal(signal.SIGINT)
            assert await second.status() == 0
            assert "host 2 ends\n" in second.said
            assert "Traceback" not in second.said
        await say_until(first, "set colour black", "^NoMajorityError: 1 of 3 copies answer")
        await say_until(fourth, "get colour", "^NoMajorityError: refused by host 1: 1 of 3 copies")
        async with stores.start(3) as third:
            await say_until(third, "get colour", "^colour is 'blue'$")
            await say_until(first, "set colour", "^colour is set$")
            await say_until(fourth, "get colour", "^colour is None$")
            await third.say("what?")
            await third.line("^get KEY, set KEY VALUE, or set KEY$")
            for program in (third, fourth, first):
                await program.say_no_more()
                assert await program.status() == 0
                assert "Traceback" not in program.said


# Any protocol over TCP.


async def test_http_is_forwarded(addresses: Addresses, tmp_path: Path) -> None:
    body = random.randbytes(5_000_000)
    ports = [free_udp_port("127.0.0.1", "127.0.0.2") for _ in range(2)]
    one, two = (
        f"{host_id}=" + ",".join(f"127.0.0.{host_id}:{port}" for port in ports)
        for host_id in (1, 2)
    )
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    _, to = listeners[0].socket.getsockname()
    async with (
        started("forward.py", addresses.key, two, one, "--to", to) as second,
        started("forward.py", addresses.key, one, two) as first,
    ):
        at = int((await first.line(r"^connect to port (\d+)$"))[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, http11.serve, listeners)
            for _ in range(2):
                # The first has to wait until the hosts have found each other.
                async with await trio.open_tcp_stream("127.0.0.1", at) as stream:
                    connection = http11.Connection(stream, h11.CLIENT)
                    for number, part in enumerate((body, b"", body[:1000])):
                        assert await http11.ask(connection, f"/{number}", part) == part[::-1]
                    assert await http11.ask(connection, "/", b"abc", close=True) == b"cba"
            nursery.cancel_scope.cancel()
        # Nobody takes connections there any more.
        async with await trio.open_tcp_stream("127.0.0.1", at) as stream:
            assert await stream.receive_some() == b""
        await second.line("^a connection failed: .*all attempts")
        for program in (first, second):
            assert "Traceback" not in program.said


# An asyncio program.


@asynccontextmanager
async def connected(program: Program) -> AsyncGenerator[trio.SocketStream]:
    """A client of ``guest.py``."""
    port = await program.line(r"^clients connect to port (\d+)$")
    async with await trio.open_tcp_stream("127.0.0.1", int(port[1])) as stream:
        yield stream


async def hear(stream: trio.SocketStream, saying: trio.SocketStream, text: bytes) -> None:
    """Say something on one side until it is heard on the other: the hosts have to meet first."""

    async def say() -> None:
        while True:
            await saying.send_all(text)
            await trio.sleep(0.05)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            heard = b""
            while text not in heard:
                part = await stream.receive_some()
                assert part
                heard += part
            nursery.cancel_scope.cancel()


async def test_an_asyncio_program_has_a_handle_by_guest_mode(addresses: Addresses) -> None:
    async with (
        started("guest.py", 0, *addresses.first) as first,
        started("guest.py", 0, *addresses.second) as second,
        connected(first) as one,
        connected(second) as other,
    ):
        await hear(one, other, b"hello\n")
        await hear(other, one, b"hello yourself\n")
        first.signal(signal.SIGTERM)
        assert await first.status() == 0
        with trio.fail_after(PATIENCE):
            # It closes the connections of its clients.
            async for _ in one:
                pass
        second.signal(signal.SIGINT)
        assert await second.status() == 0
        assert "Traceback" not in first.said + second.said


async def test_a_guest_that_fails_ends_its_host(addresses: Addresses) -> None:
    async with started("guest.py", 0, "1=127.0.0.x:5405", addresses.first[1]) as program:
        assert await program.status() == 1
        assert "InvalidArgumentError: '127.0.0.x' is not an IP address" in program.said


# A web server.


async def get(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    found = re.fullmatch(r"http://([^:]+):(\d+)", url)
    assert found is not None
    async with await trio.open_tcp_stream(found[1], int(found[2])) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")
        answer = b"".join([part async for part in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def wait_for_page(url: str, status: int, text: str) -> None:
    """Ask until the page is like that, as a monitor does."""
    with trio.fail_after(PATIENCE):
        while True:
            answer = await get(url)
            if answer[0] == status and text in answer[1]:
                return
            await trio.sleep(0.05)


async def test_a_status_page_beside_a_handle(addresses: Addresses) -> None:
    async with started("web_status.py", 0, *addresses.first) as first:
        url = (await first.line("^the status is at (http:.*)$"))[1]
        status, text = await get(url)
        assert status == 503
        assert "host 2 is unreachable: its link carries no data" in text
        async with started("web_status.py", 0, *addresses.second) as second:
            await wait_for_page(
                url, 200, "host 2 is reachable: messages go over link 0\n    link 0 to host 2"
            )
            second.signal(signal.SIGTERM)
            assert await second.status() == 0
        await wait_for_page(url, 503, "is down")
        first.signal(signal.SIGINT)
        assert await first.status() == 0
        for program in (first, second):
            # Neither the server nor Python had anything to complain of.
            assert "Traceback" not in program.said
            assert "hypercorn" not in program.said.lower()
            assert "lifespan" not in program.said.lower()


# Timers.

FIGURES = re.compile(
    r"down though the network works: (?P<downs>[\d.]+) times an hour\n"
    r"dead network noticed: (?P<least>[\d.]+) to (?P<most>[\d.]+) s, median [\d.]+ s\n"
    r"up again when mended: (?P<back>[\d.]+) to [\d.]+ s, median [\d.]+ s\n"
)


# Of the page's table: the network, the timers proposed, and in how many seconds what is noticed.
PROPOSAL = re.compile(
    r"^\|.*`(?P<network>--[^`]*)` \| (?P<interval>[\d.]+), (?P<timeout>[\d.]+), (?P<count>\d+)"
    r" \| 0 \| (?P<noticed>[\d.]+ to [\d.]+) s \| (?P<back>[\d.]+ to [\d.]+) s \|$",
    re.MULTILINE,
)
PROPOSALS = list(PROPOSAL.finditer((ROOT / "docs" / "programs.md").read_text()))


async def try_timers(*options: object) -> dict[str, float]:
    """What ``try_timers.py`` measures in a few minutes."""
    said = await output("try_timers.py", "--hours", 0.2, "--cuts", 5, *options)
    found = FIGURES.fullmatch(said)
    assert found is not None, said
    return {name: float(figure) for name, figure in found.groupdict().items()}


async def test_timers_are_tried_on_a_simulated_network() -> None:
    good = await try_timers()
    assert good["downs"] == 0
    assert 0.9 < good["least"] <= good["most"] < 2.1
    assert 4.9 < good["back"] < 6.1
    bad = await try_timers("--latency", 0.03, "--jitter", 0.03, "--loss", 0.2)
    assert bad["downs"] > 20


def test_there_are_proposals_for_four_networks() -> None:
    assert len(PROPOSALS) == 4


@pytest.mark.parametrize("proposal", PROPOSALS, ids=lambda found: found["network"])
async def test_the_proposed_timers_do_what_the_page_says(proposal: re.Match[str]) -> None:
    timers = ("--ping-interval", proposal["interval"], "--pong-timeout", proposal["timeout"])
    network = proposal["network"].split()
    measured = await try_timers(*timers, "--pong-count", proposal["count"], *network)
    assert measured["downs"] == 0
    least, most = map(float, proposal["noticed"].split(" to "))
    # Other moments of breaking: a quarter is allowed.
    assert 0.75 * least < measured["least"] <= measured["most"] < 1.25 * most
    least, _ = map(float, proposal["back"].split(" to "))
    assert measured["back"] > 0.75 * least


async def test_a_link_that_cannot_come_up_is_told() -> None:
    async with started("try_timers.py", "--latency", 1.2) as program:
        assert await program.status() == 1
        assert "has not once stayed up" in program.said
        assert "Traceback" not in program.said
