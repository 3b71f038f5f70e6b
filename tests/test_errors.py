from __future__ import annotations

import errno
import inspect
import re

import pytest

from knet_trio import errors
from knet_trio.errors import (
    DestinationError,
    DropCause,
    InvalidArgumentError,
    KnetError,
    NoFilterError,
    NoProgressError,
    PacketError,
    SendError,
    TransportError,
    UnknownHostError,
    UnknownLinkError,
)

ALL = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, KnetError)
]

NUMBERS = {
    "InvalidArgumentError": errno.EINVAL,
    "UnknownHostError": errno.EINVAL,
    "UnknownLinkError": errno.EINVAL,
    "NotImplementedByKnetError": errno.ENOSYS,
    "AlreadyExistsError": errno.EEXIST,
    "BusyError": errno.EBUSY,
    "LimitError": errno.ENOSPC,
    "ForwardingDisabledError": errno.ECANCELED,
    "FilterError": errno.EFAULT,
    "NoFilterError": errno.ENETDOWN,
    "DroppedByFilterError": errno.ENOMSG,
    "HostDownError": errno.EHOSTDOWN,
    "SealError": errno.ECHILD,
    "NoProgressError": errno.EAGAIN,
    "PacketError": errno.EBADMSG,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_error_has_the_number_libknet_gives(name: str) -> None:
    assert getattr(errors, name).errno == NUMBERS[name]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    tree = errors.__doc__ or ""
    depth = {
        match[0]: match.start() - tree.rindex("\n", 0, match.start())
        for match in re.finditer(r"\b\w+Error\b", tree)
    }
    for error in ALL:
        if error is not KnetError:
            parent = next(base for base in error.__mro__[1:] if issubclass(base, KnetError))
            assert depth[error.__name__] == depth[parent.__name__] + 4


def test_the_number_is_named_in_the_text() -> None:
    assert str(InvalidArgumentError("no good")) == "no good [EINVAL]"
    assert str(UnknownHostError("no host 'x'", errno=errno.ENOENT)) == "no host 'x' [ENOENT]"


def test_without_a_number_the_text_is_the_message() -> None:
    error = KnetError("no good")
    assert error.errno == 0
    assert str(error) == "no good"


def test_a_number_of_its_own_leaves_the_class_alone() -> None:
    assert NoProgressError("x", errno=errno.ENETUNREACH).errno == errno.ENETUNREACH
    assert NoProgressError.errno == errno.EAGAIN


def test_they_are_also_the_builtin_errors_they_are_like() -> None:
    assert issubclass(InvalidArgumentError, ValueError)
    assert issubclass(UnknownHostError, LookupError)
    assert issubclass(UnknownLinkError, LookupError)
    assert issubclass(DestinationError, ValueError)
    assert not issubclass(KnetError, OSError)


def test_every_send_error_says_what_it_is_counted_under() -> None:
    causes = {error.__name__: error.cause for error in ALL if issubclass(error, SendError)}
    assert causes == {
        "SendError": DropCause.SEND_FAILED,
        "ForwardingDisabledError": DropCause.FORWARDING_DISABLED,
        "FilterError": DropCause.FILTER_ERROR,
        "NoFilterError": DropCause.SEND_FAILED,
        "DestinationError": DropCause.UNKNOWN_DESTINATION,
        "DroppedByFilterError": DropCause.FILTER_DROP,
        "HostDownError": DropCause.HOST_DOWN,
        "SealError": DropCause.SEAL_FAILED,
        "NoProgressError": DropCause.SEND_FAILED,
    }
    assert NoFilterError("x").cause is DropCause.SEND_FAILED


def test_a_packet_error_carries_its_cause() -> None:
    error = PacketError(DropCause.WRONG_VERSION, "version 9")
    assert error.cause is DropCause.WRONG_VERSION
    assert str(error) == "version 9 [EBADMSG]"


class TestTransportError:
    def test_says_what_was_tried_and_what_the_system_said(self) -> None:
        error = TransportError.from_os_error(
            "cannot bind UDP 10.0.0.1:1", OSError(errno.EACCES, "Permission denied")
        )
        assert error.errno == errno.EACCES
        assert str(error) == "cannot bind UDP 10.0.0.1:1: Permission denied [EACCES]"

    def test_of_an_error_without_a_number(self) -> None:
        error = TransportError.from_os_error("cannot bind", OSError("no interface"))
        assert error.errno == 0
        assert str(error) == "cannot bind: no interface"


def test_drop_causes_are_plain_words() -> None:
    assert all(cause.value == cause.name.lower() for cause in DropCause)
    assert f"{DropCause.HOST_DOWN}" == "host_down"
