"""The errors of streams, requests and messages."""

from __future__ import annotations

from typing import Final

import trio

from knet_trio.streams._core.stream_state import Failure, FailureCause


class RefusedError(trio.BrokenResourceError):
    """The other host does not take a stream, a request or a message.

    Either its ``listener()``, ``requests()`` or ``messages()`` is not open, or it called
    ``HostRequest.refuse``. Nothing was done.
    """


class HandlerError(trio.BrokenResourceError):
    """The other host failed while it handled a request, which may be done in part."""


_WORDS: Final = {
    FailureCause.CANCELLED: "cancelled by host {host}",
    FailureCause.REFUSED: "refused by host {host}",
    FailureCause.FAILED: "host {host} failed while it handled the request",
    FailureCause.CLOSED: "closed by host {host}",
    FailureCause.VIOLATION: "host {host} reports that this host violated the protocol",
    FailureCause.LOST_SIGHT: "host {host} did not hear of this host for too long",
    FailureCause.SILENCE: "host {host} has not answered within patience",
    FailureCause.RESTARTED: "host {host} has restarted its streams and lost this one",
    FailureCause.FORGOTTEN: "host {host} no longer knows this stream: it has restarted,"
    " or did not hear of this host for too long",
    FailureCause.BROKEN_RULES: "host {host} violated the protocol",
    FailureCause.CLOSED_HERE: "the streams were closed here",
    FailureCause.HOST_REMOVED: "host {host} was removed from the handle",
    FailureCause.TOO_LARGE: "the data from host {host} is too large",
}


def make_error(host_id: int, failure: Failure) -> Exception:
    """Return the exception for a call that has failed."""
    text = _WORDS[failure.cause].format(host=host_id)
    if failure.reason:
        text = f"{text}: {failure.reason}"
    if failure.cause is FailureCause.CLOSED_HERE:
        return trio.ClosedResourceError(text)
    if failure.cause is FailureCause.REFUSED:
        return RefusedError(text)
    if failure.cause is FailureCause.FAILED:
        return HandlerError(text)
    return trio.BrokenResourceError(text)
