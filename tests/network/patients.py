"""Programs with two hosts on the loopback that reach each other, and a fault of the program.

python -m tests.network.patients NAME SOCKET
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from knet_trio import open_handle
from knet_trio._core.onwire import Data, encode_data
from knet_trio._transport import options
from knet_trio.control import serve_control
from tests.cluster import LOCALHOST, Pair, add_quick_link, open_pair
from tests.ports import free_udp_port

STEP: Final = 30.0
"""By how many seconds the clock is set."""

# linux/prctl.h, linux/capability.h.
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
CAP_NET_ADMIN: Final = 12

BLOCKED: Final = 0.3
FREE: Final = 0.05


async def without_rights(pair: Pair) -> None:
    """Do nothing wrong."""
    await trio.sleep_forever()


async def sleeps(pair: Pair) -> None:
    """Call what blocks, again and again."""
    while True:
        time.sleep(BLOCKED)  # noqa: ASYNC251  # that is what is wrong
        await trio.sleep(FREE)


async def calculates(pair: Pair) -> None:
    """Use up the processor, again and again."""
    while True:
        until = time.perf_counter() + BLOCKED
        while time.perf_counter() < until:
            sum(range(1000))
        await trio.sleep(FREE)


async def sets_the_clock(pair: Pair) -> None:
    """Have the time of day set, as far as this program can see."""
    real = time.time
    time.time = lambda: real() + STEP
    await trio.sleep_forever()


async def overflows(pair: Pair) -> None:
    """Have more sent in one turn than the socket of the other side has room for."""
    link = pair.b.hosts[1].links[0]
    # There is no other way to send a packet twice.
    destination, endpoint = link.config.dst, link._state.endpoint  # pyright: ignore[reportPrivateUsage]
    assert destination is not None
    assert endpoint is not None
    pair.a.open_channel(0)
    # The same message over and over, which arrives once.
    packet = encode_data(Data(2, 1, 0, True, 1, 1, 0, bytes(1000)))
    while True:
        for _ in range(500):
            endpoint.send_nowait([packet], destination)
        await trio.sleep(BLOCKED)


@asynccontextmanager
async def open_uneven_pair() -> AsyncGenerator[Pair]:
    """Host 1 has less room in its socket than host 2 sends at once."""
    async with open_handle(1) as a, open_handle(2) as b:
        src = LOCALHOST, free_udp_port()
        to_a, to_b = b.add_host(1), a.add_host(2)
        mirror = await add_quick_link(to_a, 0, (LOCALHOST, 0), src)
        setattr(options, "SOCKET_BUFFER", 65536)  # noqa: B010  # it is Final, for types
        await add_quick_link(to_b, 0, src, mirror.config.src)
        await to_a.wait_reachable()
        await to_b.wait_reachable()
        yield Pair(a, b)


PROGRAMS: Final[dict[str, Callable[[Pair], Awaitable[None]]]] = {
    program.__name__: program
    for program in (without_rights, sleeps, calculates, sets_the_clock, overflows)
}


def give_up_rights() -> None:
    """Begin again without the right to socket buffers of any size."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) == 1:
        if libc.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        os.execv(sys.executable, [sys.executable, "-m", "tests.network.patients", *sys.argv[1:]])


async def run(name: str, path: Path) -> None:
    opens = open_uneven_pair if name == overflows.__name__ else open_pair
    async with opens() as pair, serve_control(pair.a, path):
        print("ready", flush=True)
        await PROGRAMS[name](pair)


if __name__ == "__main__":
    if sys.argv[1] == without_rights.__name__:
        give_up_rights()
    trio.run(run, sys.argv[1], Path(sys.argv[2]))
