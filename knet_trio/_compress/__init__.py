"""The compression algorithms, by libknet's names and their ids on the wire.

Each family has a module, which is not available if its optional library is not installed. See
knet_handle_compress(3).
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from functools import cache
from typing import Final, NamedTuple, Protocol, cast

from knet_trio.abc import Compressor
from knet_trio.config import CompressConfig
from knet_trio.errors import DropCause, InvalidArgumentError, PacketError, shown


class _Model(NamedTuple):
    """A compression model: its id on the wire, its module, and the package of its library."""

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

MODELS: Final = tuple(_MODELS)


class _Module(Protocol):
    @abstractmethod
    def make(self, model: str, wire_id: int, level: int | None) -> Compressor:
        """Return the compressor ``model``; raise InvalidArgumentError for an invalid level."""


def model_of(wire_id: int) -> str:
    """Return the name of the model with an id on the wire."""
    names = [name for name, model in _MODELS.items() if model.wire_id == wire_id]
    return names[0] if names else f"compression id {wire_id}"


def make_compressor(config: CompressConfig) -> Compressor:
    """Return the compressor for a configuration.

    Raises:
        InvalidArgumentError: The model is unknown, its library is not installed, or the level is
            invalid.
    """
    model = config.model.lower()
    if model not in _MODELS:
        raise InvalidArgumentError(
            f"compression model {shown(config.model)} is not known; use one of {', '.join(MODELS)}"
        )
    return _make(model, config.level)


def wire_id_of(model: object) -> int:
    """Return the id of a model on the wire.

    Raises:
        InvalidArgumentError: The model is unknown.
    """
    found = _MODELS.get(model.lower()) if isinstance(model, str) else None
    if found is None:
        raise InvalidArgumentError(
            f"compression model {shown(model)} is not known; use one of {', '.join(MODELS)}"
        )
    return found.wire_id


def is_usable(model: str) -> bool:
    """Return whether the library of a model is installed."""
    try:
        _make(model, None)
    except InvalidArgumentError:
        return False
    return True


class Decompressors:
    """The decompressors for the messages of peers, whatever model this host uses itself.

    All installed libraries are loaded on creation: to import one when a message needs it would take
    too long.
    """

    def __init__(self) -> None:
        self._ready: dict[int, Compressor] = {}
        self._missing: dict[int, str] = {}
        for name, model in _MODELS.items():
            try:
                self._ready[model.wire_id] = _make(name, None)
            except InvalidArgumentError as error:
                self._missing[model.wire_id] = error.args[0]

    def find_untrusted(self, wire_id: int) -> Compressor:
        """Return the decompressor for an id on the wire; raise PacketError if there is none."""
        found = self._ready.get(wire_id)
        if found is not None:
            return found
        why = self._missing.get(wire_id, f"compression id {wire_id} is not known")
        raise PacketError(DropCause.UNKNOWN_COMPRESSION, why)


def _make(model: str, level: int | None) -> Compressor:
    wire_id, module, package = _MODELS[model]
    loaded = _load(module)
    if loaded is None:
        raise InvalidArgumentError(
            f"compression model {shown(model)} needs a library: run pip install '{package}'"
        )
    return loaded.make(model, wire_id, level)


@cache
def _load(module: str) -> _Module | None:
    """Import the module of a family; return None if its library is not installed."""
    try:
        return cast("_Module", importlib.import_module(f"knet_trio._compress.{module}"))
    except ImportError:
        return None
