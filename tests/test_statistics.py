"""The records of what is counted: ``help()`` says of each field what it is."""

from __future__ import annotations

import inspect
import re

import attrs
import pytest

from knet_trio import HandleStatistics, LinkStatistics


@pytest.mark.parametrize("record", [HandleStatistics, LinkStatistics])
def test_every_field_has_a_line(record: type[attrs.AttrsInstance]) -> None:
    _, _, attributes = inspect.cleandoc(record.__doc__ or "").partition("\nAttributes:\n")
    lines = re.findall(r"^    (\w+): (.+)$", attributes, re.MULTILINE)
    assert [name for name, _ in lines] == [field.name for field in attrs.fields(record)]
    texts = [text for _, text in lines]
    assert len(set(texts)) == len(texts)
