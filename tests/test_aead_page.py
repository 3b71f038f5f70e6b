"""What ``docs/aead.md`` says, held against the code."""

from __future__ import annotations

import hmac
import json
import struct
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305

from knet_trio._core.confirmation import LIFE_TRANSITIONS
from knet_trio._core.counter_window import WIDTH
from knet_trio._crypto.aead import ALGORITHMS, EPOCH_BITS, OVERHEAD
from knet_trio._crypto.life import LAST_COUNTER, LIFE_SIZE
from knet_trio._state.network_link import ASK_EVERY
from knet_trio._state.trust import PATIENCE
from knet_trio.errors import DropCause

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "aead.md").read_text()
VECTORS: Final = json.loads((ROOT / "tests" / "vectors" / "aead" / "vectors.json").read_text())


def draw() -> str:
    """The table of who is believed, as it is on the page."""
    rows = ["| a host is | and | so it is |", "| --- | --- | --- |"]
    rows += [
        f"| {before.name.lower()} | {cue.value} | {after.name.lower()} |"
        for (before, cue), after in LIFE_TRANSITIONS.items()
    ]
    return "\n".join(rows)


def test_the_table_is_that_of_the_code() -> None:
    assert f"-->\n{draw()}\n\n" in PAGE


def test_what_seals_on_the_page_makes_the_vectors() -> None:
    begin = PAGE.index("def hkdf_expand")
    code = PAGE[begin : PAGE.index("```", begin)]
    names: dict[str, Any] = {
        "hmac": hmac,
        "struct": struct,
        "AESGCM": AESGCM,
        "AESGCMSIV": AESGCMSIV,
        "ChaCha20Poly1305": ChaCha20Poly1305,
    }
    exec(compile(code, "docs/aead.md", "exec"), names)  # noqa: S102  # ours
    for vector in VECTORS:
        envelope = names["seal"](
            bytes.fromhex(vector["shared_key"]),
            ALGORITHMS[vector["cipher"]].number,
            vector["sender"],
            vector["to"],
            bytes.fromhex(vector["life"]),
            vector["counter"],
            bytes.fromhex(vector["packet"]),
        )
        assert envelope.hex() == vector["envelope"]


def test_the_vectors_on_the_page_are_those_of_the_file() -> None:
    printed = PAGE[PAGE.index("## Test vectors") :].split("```")[1].strip().split("\n\n")
    by_name = {vector["what"]: vector for vector in VECTORS}
    assert {by_name[text.split("\n")[0]]["cipher"] for text in printed} == set(ALGORITHMS)
    for text in printed:
        what, *lines = text.split("\n")
        fields: dict[str, str] = {}
        name = ""
        for line in lines:
            name = line[:10].strip() or name
            fields[name] = fields.get(name, "") + line[11:]
        vector = by_name[what]
        expected = {name: str(vector[name]) for name in fields}
        assert fields == {
            **expected,
            "to": "every host" if vector["to"] is None else expected["to"],
        }
        assert set(fields) == set(vector) - {"what", "cipher"}


def test_the_numbers_are_those_of_the_code() -> None:
    assert (OVERHEAD, LIFE_SIZE, ASK_EVERY, PATIENCE) == (40, 9, 0.01, 10)
    for words in (
        "That is 40 bytes more",
        "9 random bytes",
        "at most one in 10 ms",
        "for ten pong timeouts",
        f"2<sup>{EPOCH_BITS}</sup> packets at most",
        f"2<sup>{LAST_COUNTER.bit_length()}</sup> - 1",
        f"the last {WIDTH} counters",
    ):
        assert words in PAGE
    for cause in (DropCause.UNCONFIRMED, DropCause.DUPLICATE, DropCause.NOT_FOR_THIS_HOST):
        assert f"`{cause.value}`" in PAGE
    for name in ALGORITHMS:
        assert name in PAGE or name.upper() in PAGE
