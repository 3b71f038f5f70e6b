"""Handles whose links take no data for a while, so that what they send has to wait."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from knet_trio import Handle
from knet_trio._state.link_sender import LinkSender, SendResult


@contextmanager
def held(handle: Handle, host_id: int | None = None) -> Generator[None, None, None]:
    """Have no link of ``handle``, or none to that host, have room for data."""
    context = handle._runtime.context  # pyright: ignore[reportPrivateUsage]
    send_data = LinkSender.send_data

    def send(sender: LinkSender, datagrams: Sequence[bytes]) -> SendResult:
        is_held = sender._context is context  # pyright: ignore[reportPrivateUsage]
        if is_held and host_id in (None, sender._host_id):  # pyright: ignore[reportPrivateUsage]
            return SendResult(0, ())
        return send_data(sender, datagrams)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinkSender, "send_data", send)
        yield
    context.on_room(list(handle.hosts))
