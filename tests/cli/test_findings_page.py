"""docs/findings.md has what the commands find."""

from __future__ import annotations

import re
from pathlib import Path

from knet_trio.cli.findings import FindingCode

PAGE = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()


def test_every_code_has_its_section() -> None:
    sections = re.split(r"^### (.*)$", PAGE, flags=re.MULTILINE)[1:]
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(texts) == [code.value for code in FindingCode]
    assert all(text.strip() for text in texts.values())
