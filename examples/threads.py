"""Threads that receive and send: ``python examples/threads.py``.

Host alpha wants passwords hashed. That keeps a processor busy for a while each time, so host beta
does it in worker threads, and its links stay up meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from typing import Final

import trio

from knet_trio import Channel, open_handle

PASSWORDS: Final = (b"correct horse", b"battery staple", b"swordfish", b"12345")
WORKERS: Final = 2


def hash_passwords(channel: Channel) -> None:
    """Hash one password after the other, in a worker thread of Trio's, until cancelled.

    When the task that started the thread is cancelled, so is what waits in ``from_thread.run``.
    """
    while True:
        message = trio.from_thread.run(channel.receive)
        digest = hashlib.scrypt(message.data, salt=b"of the earth", n=2**14, r=8, p=1)
        answer = b"%s: %s" % (message.data, digest[:8].hex().encode())
        trio.from_thread.run(partial(channel.send, answer, to=[message.source]))


def ask(channel: Channel, token: trio.lowlevel.TrioToken) -> None:
    """Send all passwords, in a thread that Trio knows nothing of: so it needs the token.

    Threads of other libraries, which call us back, are like that.
    """
    for password in PASSWORDS:
        trio.from_thread.run(channel.send, password, trio_token=token)


async def work(channel: Channel, limiter: trio.CapacityLimiter) -> None:
    """Have a worker thread, until cancelled."""
    await trio.to_thread.run_sync(hash_passwords, channel, limiter=limiter)


async def main() -> None:
    """Have alpha's passwords hashed by beta."""
    here, there = ("127.0.0.1", 5416), ("127.0.0.2", 5416)
    async with open_handle(1) as alpha, open_handle(2) as beta:
        answers, requests = alpha.open_channel(0), beta.open_channel(0)
        await alpha.add_host(2).add_link(0, here, there, ping_interval=0.1)
        await beta.add_host(1).add_link(0, there, here, ping_interval=0.1)
        await alpha.get_host(2).wait_reachable()
        await beta.get_host(1).wait_reachable()
        # Of the threads that Trio allows at a time, those that stay would take some away.
        limiter = trio.CapacityLimiter(WORKERS)
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(work, requests, limiter)
            token = trio.lowlevel.current_trio_token()
            thread = threading.Thread(target=ask, args=[answers, token])
            thread.start()
            for _ in PASSWORDS:
                print((await answers.receive()).data.decode())
            # Trio does not wait for it by itself, and what it calls is gone when the handle ends.
            await trio.to_thread.run_sync(thread.join)
            nursery.cancel_scope.cancel()


trio.run(main)
