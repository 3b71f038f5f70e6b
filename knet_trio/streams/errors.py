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
    FailureCause.CANCELLED: "host {host} gave it up",
    FailureCause.REFUSED: "host {host} refuses it",
    FailureCause.FAILED: "host {host} failed while it worked on it",
    FailureCause.CLOSED: "host {host} has closed it",
    FailureCause.VIOLATION: "host {host} says that this side broke the rules of the protocol",
    FailureCause.LOST_SIGHT: "host {host} did not hear of this one for too long",
    FailureCause.SILENCE: "host {host} was not heard of for too long",
    FailureCause.RESTARTED: "host {host} has started its streams again, and lost this one",
    FailureCause.FORGOTTEN: "host {host} does not know this stream any more: it has started again,"
    " or did not hear of this one for too long",
    FailureCause.BROKEN_RULES: "host {host} broke the rules of the protocol",
    FailureCause.CLOSED_HERE: "the streams were closed here",
    FailureCause.HOST_REMOVED: "host {host} was removed from the handle",
    FailureCause.TOO_LARGE: "what host {host} sends is too large",
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
