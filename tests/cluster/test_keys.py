"""Every option has its key, and every key its row in the documentation."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import attrs
import pytest

from knet_trio import Handle, LinkPolicy, open_handle
from knet_trio.cluster import (
    Cluster,
    ClusterChannel,
    ClusterHost,
    ClusterLink,
    ClusterTap,
    load_cluster,
)
from knet_trio.cluster._keys import (
    CHANNEL_KEYS,
    CLUSTER_KEYS,
    DOCUMENTED,
    HOST_KEYS,
    LINK_KEYS,
    TAP_KEYS,
    Key,
)
from knet_trio.host import Host

ROOT: Final = Path(__file__).parents[2]

# Options whose keys are called otherwise, or are several.
OTHERWISE: Final = {
    # Of open_handle.
    "host_id": ("[[hosts]]", "id"),
    "crypto": ("[cluster]", "key_file"),
    # Of add_link: its id is the place in the list.
    "link_id": ("[[hosts]]", "links"),
    "src": ("[[hosts]]", "links"),
    "dst": ("[[hosts]]", "links"),
}


def names(table: str) -> set[str]:
    return {key.name for key in DOCUMENTED[table]}


@pytest.mark.parametrize(
    ("call", "table"),
    [
        (open_handle, "[cluster]"),
        (Host.add_link, "[cluster.links]"),
        (Handle.add_host, "[[hosts]]"),
    ],
    ids=["open_handle", "add_link", "add_host"],
)
def test_every_option_has_its_key(call: object, table: str) -> None:
    assert callable(call)
    options = set(inspect.signature(call).parameters) - {"self"}
    assert len(options) > 2
    for option in options:
        where, name = OTHERWISE.get(option, (table, option))
        # A host's policy is that of all.
        assert name in names(where) | names("[cluster]"), option


@pytest.mark.parametrize(
    ("call", "keys"), [(open_handle, CLUSTER_KEYS), (Host.add_link, LINK_KEYS)]
)
def test_their_defaults_are_the_same(call: object, keys: tuple[Key, ...]) -> None:
    assert callable(call)
    parameters = inspect.signature(call).parameters
    shared = [key for key in keys if key.name in parameters]
    assert len(shared) > 5
    for key in shared:
        assert parameters[key.name].default == key.default, key.name


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (Cluster, CLUSTER_KEYS),
        (ClusterLink, LINK_KEYS),
        (ClusterHost, HOST_KEYS),
        (ClusterTap, TAP_KEYS),
        (ClusterChannel, CHANNEL_KEYS),
    ],
)
def test_the_records_have_the_same_defaults(record: type, keys: tuple[Key, ...]) -> None:
    fields = {field.name: field.default for field in attrs.fields(record)}
    # They are made of what these keys say.
    made = {"links", "allow"}
    shared = [key for key in keys if key.name in fields.keys() - made]
    assert shared
    for key in shared:
        assert fields[key.name] in (key.default, attrs.NOTHING), key.name


def documented() -> dict[str, dict[str, str]]:
    """The defaults that the documentation has, by table and key."""
    text = (ROOT / "docs" / "cluster-file.md").read_text()
    tables: dict[str, dict[str, str]] = {}
    for heading, body in re.findall(r"^### (.*?)$\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.M):
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", body, re.M)
        match = re.match(r"`([^`]+)`", heading)
        if rows and match is not None:
            tables[match[1]] = dict(rows)
    return tables


def shown(key: Key) -> str:
    """The default of a key as the documentation has it."""
    if key.required:
        return "required"
    if isinstance(key.default, bool):
        return f"`{str(key.default).lower()}`"
    if isinstance(key.default, LinkPolicy):
        return f'`"{key.default.value}"`'
    if isinstance(key.default, str) and key.default:
        return f'`"{key.default}"`'
    if isinstance(key.default, int | float):
        return f"`{key.default}`"
    return "–"


def test_every_key_has_its_row_with_its_default() -> None:
    assert documented() == {
        table: {key.name: shown(key) for key in keys} for table, keys in DOCUMENTED.items()
    }


def test_the_file_that_the_documentation_shows_can_be_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cluster-file.md").read_text()
    block = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.M)[0]
    (tmp_path / "lab.toml").write_text(block)
    key = tmp_path / "lab.key"
    key.write_bytes(bytes(range(256)))
    key.chmod(0o400)
    cluster = load_cluster(tmp_path / "lab.toml")
    assert [host.name for host in cluster.hosts] == ["alpha", "beta"]
    assert cluster.warnings == ()
