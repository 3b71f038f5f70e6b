"""The C library's lists of transports, crypto and compression models, and ours."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import pytest

from knet_trio import (
    InvalidArgumentError,
    get_compress_list,
    get_crypto_list,
    get_transport_id,
    get_transport_list,
    get_transport_name,
)
from knet_trio._compress import MODELS
from tests.interop.libknet import SONAME

# It allows no more of anything.
MOST: Final = 256
# KNET_MAX_TRANSPORTS, its answer to a name that no transport has.
NO_TRANSPORT: Final = 255


class TransportInfo(ctypes.Structure):
    """`struct knet_transport_info`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("id", ctypes.c_uint8),
        ("properties", ctypes.c_uint8),
        ("pad", ctypes.c_char * 256),
    )


class ModelInfo(ctypes.Structure):
    """`struct knet_crypto_info` and `struct knet_compress_info`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("properties", ctypes.c_uint8),
        ("pad", ctypes.c_char * 256),
    )


@pytest.fixture
def library() -> ctypes.CDLL:
    return ctypes.CDLL(SONAME, use_errno=True)


def entries(library: ctypes.CDLL, function: str, kind: type[ctypes.Structure]) -> list[Any]:
    """What one of its functions lists."""
    found, count = (kind * MOST)(), ctypes.c_size_t()
    assert getattr(library, function)(found, ctypes.byref(count)) == 0
    return list(found[: count.value])


def names(library: ctypes.CDLL, function: str) -> list[str]:
    """The names of models."""
    return [entry.name.decode() for entry in entries(library, function, ModelInfo)]


def test_transports_have_its_ids_and_its_names_in_lower_case(library: ctypes.CDLL) -> None:
    theirs = {
        entry.name.decode(): int(entry.id)
        for entry in entries(library, "knet_get_transport_list", TransportInfo)
    }
    ours = {name.upper(): get_transport_id(name) for name in get_transport_list()}
    # The releases to come have no SCTP any more.
    assert theirs.items() <= ours.items()
    assert set(ours) - set(theirs) <= {"SCTP"}


def test_an_id_and_a_name_are_looked_up_alike(library: ctypes.CDLL) -> None:
    name_of, id_of = library.knet_get_transport_name_by_id, library.knet_get_transport_id_by_name
    name_of.restype, id_of.restype = ctypes.c_char_p, ctypes.c_uint8
    for name in get_transport_list():
        number = get_transport_id(name)
        assert name_of(number) == name.upper().encode()
        assert id_of(name.upper().encode()) == number
    assert name_of(3) is None
    assert id_of(b"TCP") == NO_TRANSPORT
    with pytest.raises(InvalidArgumentError):
        get_transport_name(3)
    with pytest.raises(InvalidArgumentError):
        get_transport_id("TCP")


def test_its_crypto_models_are_all_here(library: ctypes.CDLL) -> None:
    assert set(names(library, "knet_get_crypto_list")) <= set(get_crypto_list())


def test_its_compression_models_are_those_known_here_in_the_same_order(
    library: ctypes.CDLL,
) -> None:
    theirs = names(library, "knet_get_compress_list")
    assert theirs == list(MODELS)
    assert get_compress_list() == [model for model in theirs if model in get_compress_list()]
