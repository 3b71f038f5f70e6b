"""The invariants hold for all that is in the corpora, without a fuzzer, on every interpreter.

And they can be broken: for each target a mistake is made in the package, which its corpus shows.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import pytest

from knet_trio._core.onwire import DATA_HEADER_SIZE, decode_untrusted
from tests.fuzz import TARGETS
from tests.fuzz.__main__ import CORPUS, MAX_INPUT

FILES: Final = {target: sorted(CORPUS.joinpath(target).iterdir()) for target in TARGETS}

every_target = pytest.mark.parametrize("target", TARGETS)


def check_of(target: str) -> Callable[[bytes], None]:
    return cast("Callable[[bytes], None]", import_module(f"tests.fuzz.{target}").check)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(target, path, id=f"{target}-{path.name[:12]}")
        for target in TARGETS
        for path in FILES[target]
    ],
)
def test_the_invariant_holds(target: str, path: Path) -> None:
    check_of(target)(path.read_bytes())


@every_target
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 1000, bytes(range(256))])
def test_it_holds_for_next_to_nothing_and_for_a_lot_of_the_same(target: str, data: bytes) -> None:
    check_of(target)(data)


@every_target
def test_a_corpus_is_small_and_has_no_file_twice(target: str) -> None:
    contents = [path.read_bytes() for path in FILES[target]]
    assert 10 <= len(contents) <= 150
    assert len(set(contents)) == len(contents)
    assert max(map(len, contents)) <= MAX_INPUT


@every_target
def test_the_first_line_of_a_target_is_its_invariant(target: str) -> None:
    first = (import_module(f"tests.fuzz.{target}").__doc__ or "").splitlines()[0]
    assert first.endswith(".")


def always(*_: object) -> bool:
    return True


def never(*_: object) -> bool:
    return False


def take_anything(_: object, value: object, *__: object) -> object:
    """A check that takes what it is given."""
    return value


def take_nothing_amiss(*_: object, **__: object) -> None:
    """A check that finds nothing wrong."""


def read_the_first(data: bytes, stride: int, _: int) -> object:
    """A check of many packets that looks at one."""
    return decode_untrusted(data[: max(stride, DATA_HEADER_SIZE + 1)])


def decompress_all(_: object, data: bytes, limit: int) -> bytes:
    del limit
    return data * 1000


MISTAKES: Final[list[tuple[str, str, Callable[..., Any]]]] = [
    ("packet", "knet_trio._core.onwire._check_link", always),
    ("packet", "knet_trio._core.runs._decode_headers", read_the_first),
    ("envelope", "knet_trio._crypto.envelope.bytes_eq", always),
    ("aead", "knet_trio._core.counter_window.CounterWindow.is_new", always),
    ("aead", "knet_trio._core.counter_window.CounterWindow.mark", take_nothing_amiss),
    ("reassembly", "knet_trio._core.window.SequenceWindow.is_delivered", never),
    ("reassembly", "knet_trio._core.defrag.Reassembly._is_stale", never),
    ("reassembly", "knet_trio._core.defrag._Partial.fits", always),
    ("reassembly", "knet_trio._core.defrag._Partial.fits_together", always),
    ("reassembly", "knet_trio._core.defrag.Reassembly.make_room_ahead", never),
    ("reassembly", "knet_trio._core.inbound._fit_together", always),
    ("decompression", "knet_trio._compress.zlib.Zlib.decompress_untrusted", decompress_all),
    ("acl", "knet_trio._core.acl.AclEntry.matches", always),
    ("streams", "knet_trio.streams._core.receiving_half.ReceivingHalf.check", take_nothing_amiss),
    ("streams", "knet_trio.streams._core.connection.Connection._check_number", take_nothing_amiss),
    ("configuration", "knet_trio.config.check_integer", take_anything),
    ("configuration", "knet_trio._settings.check_seconds", take_anything),
]


@pytest.mark.parametrize(
    ("target", "place", "mistake"), MISTAKES, ids=[place for _, place, _ in MISTAKES]
)
def test_a_mistake_is_noticed(
    target: str, place: str, mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_of(target)
    monkeypatch.setattr(place, mistake)

    def holds(path: Path) -> bool:
        try:
            check(path.read_bytes())
        except Exception:
            return False
        return True

    assert not all(holds(path) for path in FILES[target])
