"""Fuzz targets: what must hold whatever bytes come from the network, or from a user's settings.

Each module is one target. The first line of its docstring is its invariant, and ``check`` takes any
bytes and raises if it does not hold. ``corpus/`` has, for each, bytes that between them go through
all of the code. ``python -m tests.fuzz`` looks for more; docs/fuzzing.md says how.
"""

from __future__ import annotations

from typing import Final

TARGETS: Final = (
    "packet",
    "envelope",
    "aead",
    "reassembly",
    "decompression",
    "acl",
    "configuration",
    "streams",
)
