"""docs/control-protocol.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from knet_trio.control.errors import ERROR_MEANINGS, ErrorCode
from knet_trio.control.lines import PROTOCOL_VERSION
from tests.control.documentation import tables
from tests.control.serving import open_raw, open_served

PAGE = (Path(__file__).parents[2] / "docs" / "control-protocol.md").read_text()


def section(heading: str) -> str:
    found = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, heading
    return str(found[0])


@pytest.mark.parametrize("heading", tables())
def test_a_table_is_that_of_the_code(heading: str) -> None:
    assert tables()[heading] in section(heading)


def test_there_are_no_other_tables() -> None:
    assert len(re.findall(r"^\| --- ", PAGE, re.MULTILINE)) == len(tables())


def test_every_code_has_its_meaning() -> None:
    assert list(ERROR_MEANINGS) == list(ErrorCode)


def test_the_version() -> None:
    assert f"This is version {PROTOCOL_VERSION}." in PAGE


async def test_the_conversation_shown_is_one(tmp_path: Path) -> None:
    """What the client says there is answered, and the answers have the members that are shown."""
    blocks = re.findall(r"^```\n(.*?)^```$", section("By example"), re.DOTALL | re.MULTILINE)
    lines = [line.split(" ", 1) for block in blocks for line in block.splitlines()]
    expected: list[dict[str, object]] = []
    async with open_served(tmp_path) as served, open_raw(served.path, greeted=False) as client:
        for who, text in [*lines, (">", "")]:
            if who == "<":
                expected.append(json.loads(text))
                continue
            # Events may come before the answer or after it.
            said = [await client.receive() for _ in expected]
            for real, shown in zip(sorted(said, key=kind), sorted(expected, key=kind), strict=True):
                assert list(real) == list(shown)
                if "error" in shown or "event" in shown:
                    assert {**real, "time": 0} == {**shown, "time": 0}
            expected.clear()
            if text:
                await client.send(text.encode())


def kind(line: dict[str, object]) -> tuple[bool, str]:
    return "event" in line, str(line.get("event"))
