"""Every field of every public record has a line of its own in ``help()``."""

from __future__ import annotations

import inspect
import re
from typing import Final

import attrs
import pytest

import knet_trio
import knet_trio.cluster
import knet_trio.tap
import knet_trio.testing


def fields_of(record: type) -> tuple[str, ...]:
    if attrs.has(record):
        return tuple(field.name for field in attrs.fields(record) if field.init)
    return getattr(record, "_fields", ())


RECORDS: Final = [
    record
    for module in (knet_trio, knet_trio.cluster, knet_trio.tap, knet_trio.testing)
    for record in (getattr(module, name) for name in module.__all__)
    if inspect.isclass(record) and fields_of(record)
]


def test_they_are_found() -> None:
    """Both kinds of record, of all modules."""
    found = {record.__name__ for record in RECORDS}
    assert {"LinkStatus", "LinkTransition", "Message", "AclEntry", "Conditions", "Cluster"} <= found


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_each_field_has_a_line(record: type) -> None:
    text = inspect.getdoc(record) or ""
    documented = re.findall(r"^    (\w+): \S", text, re.MULTILINE)
    assert [name for name in fields_of(record) if name not in documented] == []
