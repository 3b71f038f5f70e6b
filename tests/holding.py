"""Handles whose links take no data for a while, so that what they send has to wait."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from knet_trio import Handle
from knet_trio._state.link_sender import LinkSender, SendResult


@contextmanager
def held(handle: Handle) -> Generator[None, None, None]:
    """Have no link of ``handle`` have room for data."""
    context = handle._runtime.context  # pyright: ignore[reportPrivateUsage]
    send_data = LinkSender.send_data

    def send(sender: LinkSender, datagrams: Sequence[bytes]) -> SendResult:
        if sender._context is context:  # pyright: ignore[reportPrivateUsage]
            return SendResult(0, ())
        return send_data(sender, datagrams)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinkSender, "send_data", send)
        yield
    context.on_room(list(handle.hosts))
