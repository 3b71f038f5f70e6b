"""Two handles on the loopback, one message: a program as a user would write it.

It is run and checked as it stands with trio-typing 0.10 installed (`nox -s trio_typing`) and
checked once more with Trio's own types (`nox -s types`).
"""

from __future__ import annotations

from typing import assert_type

import trio

import knet_trio
from knet_trio import AclEntry, Channel, Handle, Host, Link, Message

LOOPBACK = "127.0.0.1"


async def connect(alpha: Handle, beta: Handle) -> tuple[Link, Link]:
    """Join the handles by one link, of which neither end knew its port before."""
    to_alpha = assert_type(beta.add_host(alpha.host_id, name="alpha"), Host)
    to_beta = assert_type(alpha.add_host(beta.host_id, name="beta"), Host)
    # Only beta can be dynamic: somebody has to speak first.
    inward = await to_alpha.add_link(
        0, (LOOPBACK, 0), ping_interval=0.05, pong_timeout=1.0, pong_count=1
    )
    assert_type(inward, Link)
    inward.acl.append(AclEntry.address(LOOPBACK))
    _, port = inward.config.src
    outward = await to_beta.add_link(
        0, (LOOPBACK, 0), (LOOPBACK, port), ping_interval=0.05, pong_timeout=1.0, pong_count=1
    )
    await to_alpha.wait_reachable()
    await to_beta.wait_reachable()
    return outward, inward


async def main() -> None:
    """Send from one handle to the other, and see it arrive."""
    with trio.fail_after(4):
        async with knet_trio.open_handle(1) as alpha, knet_trio.open_handle(2) as beta:
            assert_type(alpha, Handle)
            sender = assert_type(alpha.open_channel(0), Channel)
            receiver = beta.open_channel(0)
            outward, inward = await connect(alpha, beta)
            await outward.wait_connected()
            await inward.wait_connected()

            send_half: trio.abc.SendChannel[bytes] = sender
            receive_half: trio.abc.ReceiveChannel[Message] = receiver
            await send_half.send(b"hello")
            message = assert_type(await receiver.receive(), Message)
            if (message.data, message.source, message.channel) != (b"hello", 1, 0):
                raise SystemExit(f"sent hello from host 1 on channel 0, got {message}")

            await sender.send_sync(b"again", to=[2])
            async for message in receive_half:
                if assert_type(message.data, bytes) != b"again":
                    raise SystemExit(f"sent again, got {message.data!r}")
                break


async def mistakes(channel: Channel, nursery: trio.Nursery) -> None:
    """Never run: a checker has to find each of these, or its ignore is itself an error."""
    await channel.send("text")  # type: ignore[arg-type]
    nursery.start_soon(channel.send, 1)  # type: ignore[arg-type]
    await channel.no_such_method()  # type: ignore[attr-defined]


if __name__ == "__main__":
    trio.run(main)
