"""The compression algorithms, by libknet's names and their ids on the wire.

Each family has a module, imported when it is first needed: what is optional is missed only by those
who use it. Source: man knet_handle_compress.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple, Protocol, cast

from knet_trio.abc import Compressor
from knet_trio.config import CompressConfig
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError


class _Model(NamedTuple):
    """Its id on the wire, the module here, and what brings the library behind it."""

    wire_id: int
    module: str
    package: str = ""


_MODELS: Final = {
    "zlib": _Model(1, "zlib"),
    "lz4": _Model(2, "lz4", "lz4"),
    "lz4hc": _Model(3, "lz4", "lz4"),
    "lzo2": _Model(4, "lzo2", "knet-trio[lzo2]"),
    "lzma": _Model(5, "lzma"),
    "bzip2": _Model(6, "bzip2"),
    "zstd": _Model(7, "zstd", "knet-trio[zstd]"),
}
_NAMES: Final = {model.wire_id: name for name, model in _MODELS.items()}

MODELS: Final = tuple(_MODELS)


_threads: ContextVar[bool] = ContextVar("threads", default=True)


@contextmanager
def without_threads() -> Generator[None, None, None]:
    """Have compressors made in this context, and in tasks started from it, ask for no threads.

    For simulated time, which would go on while a thread works.
    """
    token = _threads.set(False)
    try:
        yield
    finally:
        _threads.reset(token)


class _Module(Protocol):
    @abstractmethod
    def make(self, model: str, wire_id: int, level: int | None) -> Compressor:
        """The compressor called ``model``. Raises InvalidArgumentError for a level it lacks."""


def make_compressor(config: CompressConfig) -> Compressor:
    """The compressor that ``config`` describes.

    Raises InvalidArgumentError for an unknown model, one whose library is not installed, or a level
    that the model does not have.
    """
    model = config.model.lower()
    if model not in _MODELS:
        raise InvalidArgumentError(
            f"compression model {config.model!r} is not known; there are {', '.join(MODELS)}"
        )
    return _make(model, config.level)


def is_usable(model: str) -> bool:
    """Whether the library behind ``model`` is installed."""
    try:
        _make(model, None)
    except InvalidArgumentError:
        return False
    return True


class Decompressors:
    """What opens the messages of peers, whatever this host's own setting."""

    def __init__(self) -> None:
        self._ready: dict[int, Compressor] = {}

    def find_untrusted(self, wire_id: int) -> Compressor:
        """The algorithm with that id. Raises PacketError if there is none, or none installed."""
        found = self._ready.get(wire_id)
        if found is not None:
            return found
        model = _NAMES.get(wire_id)
        if model is None:
            raise PacketError(
                DropCause.UNKNOWN_COMPRESSION, f"compression id {wire_id} is not known"
            )
        try:
            found = _make(model, None)
        except InvalidArgumentError as error:
            raise PacketError(DropCause.UNKNOWN_COMPRESSION, error.args[0]) from error
        self._ready[wire_id] = found
        return found

    def is_slow(self, wire_id: int) -> bool:
        """Whether to use a thread for it. False for an unknown one, which is refused at once."""
        try:
            return self.find_untrusted(wire_id).slow
        except PacketError:
            return False


def _make(model: str, level: int | None) -> Compressor:
    wire_id, module, package = _MODELS[model]
    try:
        loaded = importlib.import_module(f"knet_trio._compress.{module}")
    except ImportError as error:
        raise InvalidArgumentError(
            f"compression model {model!r} needs a library: pip install '{package}'"
        ) from error
    compressor = cast("_Module", loaded).make(model, wire_id, level)
    if not _threads.get():
        compressor.slow = False
    return compressor
