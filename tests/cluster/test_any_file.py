"""Whatever stands in a file, it can be used or its mistakes are said."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from knet_trio.cluster import ClusterFileError, load_cluster
from knet_trio.cluster._keys import DOCUMENTED
from tests.cluster.files import write_file

# As TOML has them.
VALUES: Final = st.sampled_from(
    [
        *("0", "-1", "1", "7", "1.5", "inf", "nan", "true", "1979-05-27", "70000", "1" * 30),
        *('""', '"x"', '"lab.key"', '"10.0.0.1"', '"10.0.0.2:1"', '"dynamic"', '"zlib"', '"{"'),
        *("[]", "[1]", '[""]', '["10.0.0.1"]', '["10.0.0.2", "dynamic"]', '["fd00::1"]', "[[]]"),
        *("{}", "{ 1 = 2 }", '{ model = "zlib" }', '{ key_file = "lab.key" }', "[{}]"),
    ]
)
NAMES: Final = sorted({key.name for keys in DOCUMENTED.values() for key in keys} | {"nonsense"})
TABLES: Final = st.sampled_from(
    [
        *("[cluster]", "[cluster.links]", "[cluster.link.1]", "[cluster.link.x]", "[[hosts]]"),
        *("[tap]", "[[channels]]", "[control]", "[metrics]", "[hosts]", "[[tap]]", "[nonsense]"),
        "[cluster.compress]",
    ]
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines: list[str] = []
    for table in draw(st.lists(TABLES, max_size=6)):
        lines.append(table)
        names = draw(st.lists(st.sampled_from(NAMES), max_size=5, unique=True))
        lines += [f"{name} = {draw(VALUES)}" for name in names]
    return "\n".join(lines)


def check(text: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_file(Path(directory), text, name)
        try:
            load_cluster(path)
        except ClusterFileError as error:
            mistakes = error.mistakes
        else:
            return
    assert mistakes
    lines = text.split("\n")
    for mistake in mistakes:
        assert mistake.line is not None
        assert mistake.column is not None
        # One behind the end is the place of what is missing there.
        assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1
        assert mistake.text
        json.dumps(str(mistake))


@given(texts())
def test_of_toml(text: str) -> None:
    check(text, "lab.toml")


LINES: Final = st.sampled_from(
    [
        *("totem {", "interface {", "nodelist {", "node {", "nozzle {", "system {", "}", "}", "{"),
        *("version: 2", "linknumber: 1", "linknumber: x", "nodeid: 1", "nodeid: 2", "nodeid:"),
        *("ring0_addr: 127.0.0.1", "ring0_addr: 127.0.0.2", "ring1_addr: fd00::1", "name: a"),
        *("crypto_hash: sha1", "key: x", "token: 0", "token: 99999999999", "knet_mtu: 1400"),
        *("knet_pong_count: 0", "ipaddr: 10.0.0.0", "ipprefix: 24", "ipprefix: x", "macaddr: 1"),
        *("knet_compression_model: zlib", "knet_compression_level: 99", "# {", "", ":", "a:b:c"),
    ]
)


@given(st.lists(LINES, max_size=30))
def test_of_corosync(lines: list[str]) -> None:
    check("\n".join(["totem {", "version: 2", "}", *lines]), "corosync.conf")
