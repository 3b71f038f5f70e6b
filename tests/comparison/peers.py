"""One side of a contender: ``python -m tests.comparison.peers CONTENDER send|receive SECONDS``.

A receiver says when it is ready, and what has arrived when it reads a line. A sender says when it
is ready, and sends for so many seconds once it reads a line.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import trio
import zmq

from knet_trio import Channel, LinkPolicy, open_handle
from knet_trio.cli.bench.namespaces import VethPair
from tests.comparison.message import (
    PING,
    PORT,
    SIZE,
    TIMEOUT,
    Log,
    messages,
    say,
    wait_for,
    wait_word,
)
from tests.comparison.quic import receive_quic, send_quic
from tests.interop import libknet

HERE: Final = {"send": 1, "receive": 2}
LINKS: Final = (0, 1)
IPPROTO_MPTCP: Final = 262
MILLISECONDS: Final = 1000


def address(side: int, link: int) -> str:
    """Return the address of a side, 1 or 2, on a link."""
    return VethPair.v4(side - 1, link)


async def run_knet_trio(role: str, seconds: float, policy: LinkPolicy) -> None:
    """Send or receive by knet_trio."""
    me = HERE[role]
    async with open_handle(me) as handle:
        peer = handle.add_host(3 - me, policy=policy)
        channel = handle.open_channel(0)
        for link in LINKS:
            here, there = ((address(side, link), PORT + link) for side in (me, 3 - me))
            await peer.add_link(
                link, here, there, priority=10 - link, ping_interval=PING, pong_timeout=TIMEOUT
            )
        for one in peer.links.values():
            await one.wait_connected()
        say("ready")
        if role == "receive":
            await _receive_until_word(channel)
            return
        await trio.to_thread.run_sync(wait_word)
        for due, message in messages(seconds):
            await trio.sleep(max(0.0, due - time.monotonic()))
            await channel.send(message)
        say("sent")
        await trio.to_thread.run_sync(wait_word)


async def _receive_until_word(channel: Channel) -> None:
    log = Log()

    async def receive() -> None:
        async for message in channel:
            log.add(message.data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.to_thread.run_sync(wait_word)
        log.report()
        nursery.cancel_scope.cancel()


def knet_trio(role: str, seconds: float, policy: LinkPolicy) -> None:
    """Run the above."""
    trio.run(run_knet_trio, role, seconds, policy)


def c_library(role: str, seconds: float, policy: str) -> None:
    """Send or receive by libknet."""
    me = HERE[role]
    peer = 3 - me
    handle = libknet.Handle(me)
    handle.call("knet_host_add", peer)
    handle.call("knet_host_set_policy", peer, libknet.POLICIES[policy])
    for link in LINKS:
        here, there = ((address(side, link), PORT + link) for side in (me, peer))
        udp = libknet.TRANSPORTS["udp"]
        handle.link_set_config(peer, link, here, there, transport=udp, flags=0)
        handle.call("knet_link_set_priority", peer, link, 10 - link)
        interval, timeout = round(PING * MILLISECONDS), round(TIMEOUT * MILLISECONDS)
        handle.call("knet_link_set_ping_timers", peer, link, interval, timeout, 2048)
        handle.call("knet_link_set_enable", peer, link, 1)
    handle.on_socket(lambda fd, channel, direction, error, code: None)
    _, channel = handle.add_datafd(0)
    handle.call("knet_handle_setfwd", 1)
    while not all(handle.link_status(peer, link)["connected"] for link in LINKS):
        time.sleep(0.05)
    say("ready")
    if role == "receive":
        log = Log()
        taker = threading.Thread(target=_take_all, args=(handle, channel, log), daemon=True)
        taker.start()
        wait_word()
        log.report()
    else:
        _send(seconds, lambda message: handle.send(message, channel))


def _take_all(handle: libknet.Handle, channel: int, log: Log) -> None:
    buffer = ctypes.create_string_buffer(libknet.MAX_PACKET)
    while True:
        try:
            length = handle.recv_into(buffer, channel)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        log.add(buffer.raw[:length])


def _send(seconds: float, send: Callable[[bytes], object]) -> None:
    """Wait for the word, and send for so many seconds."""
    wait_word()
    for due, message in messages(seconds):
        wait_for(due)
        send(message)
    say("sent")
    wait_word()


def zeromq(role: str, seconds: float, links: int) -> None:
    """Send or receive by ZeroMQ: PUSH to PULL over TCP, connected to one address or to both."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one = context.socket(zmq.PUSH if role == "send" else zmq.PULL)
    one.setsockopt(zmq.LINGER, 0)
    one.setsockopt(zmq.HEARTBEAT_IVL, round(PING * MILLISECONDS))
    one.setsockopt(zmq.HEARTBEAT_TIMEOUT, round(TIMEOUT * MILLISECONDS))
    # What is connected and nobody answers takes no messages.
    one.setsockopt(zmq.IMMEDIATE, 1)
    ends = [f"tcp://{address(2, link)}:{PORT + link}" for link in range(links)]
    if role == "send":
        for end in ends:
            one.connect(end)
        # With IMMEDIATE a socket that can be written to is connected.
        one.poll(flags=zmq.POLLOUT)
        say("ready")
        _send(seconds, partial(_offer, one))
        return
    for end in ends:
        one.bind(end)
    say("ready")
    log = Log()
    poller = zmq.Poller()
    poller.register(one, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if one in ready:
            log.add(one.recv())
        elif sys.stdin.fileno() in ready:
            log.report()
            return


def _offer(one: zmq.Socket[bytes], message: bytes) -> None:
    try:
        one.send(message, zmq.NOBLOCK)
    except zmq.Again:
        # Nobody is connected: the message is lost.
        return


def stream(role: str, seconds: float, protocol: int) -> None:
    """Send or receive on a TCP or MPTCP connection over the first link."""
    there = (address(2, 0), PORT)
    if role == "send":
        with _connect(there, protocol) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            say("ready")
            _send(seconds, connection.sendall)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as listener:
        # Further subflows of MPTCP come to the other address.
        listener.bind(("", PORT))
        listener.listen()
        say("ready")
        log = Log()
        threading.Thread(target=_take_stream, args=(listener, log), daemon=True).start()
        wait_word()
        log.report()


def _connect(there: tuple[str, int], protocol: int) -> socket.socket:
    """Connect, again if the receiver does not listen yet."""
    while True:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        try:
            one.connect(there)
        except ConnectionRefusedError:
            one.close()
            time.sleep(0.1)
        except BaseException:
            one.close()
            raise
        else:
            return one


def _take_stream(listener: socket.socket, log: Log) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as whole:
        while len(message := whole.read(SIZE)) == SIZE:
            log.add(message)


CONTENDERS: Final[Mapping[str, Callable[[str, float], None]]] = {
    "knet_trio, active": partial(knet_trio, policy=LinkPolicy.ACTIVE),
    "knet_trio, passive": partial(knet_trio, policy=LinkPolicy.PASSIVE),
    "libknet, active": partial(c_library, policy="active"),
    "libknet, passive": partial(c_library, policy="passive"),
    "MPTCP": partial(stream, protocol=IPPROTO_MPTCP),
    "pyzmq, both addresses": partial(zeromq, links=2),
    "pyzmq, one address": partial(zeromq, links=1),
    "aioquic": lambda role, seconds: (
        receive_quic(address(2, 0)) if role == "receive" else send_quic(address(2, 0), seconds)
    ),
    "TCP": partial(stream, protocol=socket.IPPROTO_TCP),
}


def main() -> None:
    """Be one side of one contender."""
    contender, role, seconds = sys.argv[1:]
    CONTENDERS[contender](role, float(seconds))


if __name__ == "__main__":
    main()
