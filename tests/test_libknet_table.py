"""docs/libknet.md has every call of libknet once, and names only what there is."""

from __future__ import annotations

import inspect
import re
import typing
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import knet_trio

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "libknet.md"

# The calls that libknet's manual pages name.
CALLS: Final[tuple[str, ...]] = (
    "knet_addrtostr",
    "knet_get_compress_list",
    "knet_get_crypto_list",
    "knet_get_transport_id_by_name",
    "knet_get_transport_list",
    "knet_get_transport_name_by_id",
    "knet_handle_add_datafd",
    "knet_handle_clear_stats",
    "knet_handle_compress",
    "knet_handle_crypto",
    "knet_handle_enable_access_lists",
    "knet_handle_enable_filter",
    "knet_handle_enable_pmtud_notify",
    "knet_handle_enable_sock_notify",
    "knet_handle_free",
    "knet_handle_get_channel",
    "knet_handle_get_datafd",
    "knet_handle_get_stats",
    "knet_handle_get_transport_reconnect_interval",
    "knet_handle_new",
    "knet_handle_new_ex",
    "knet_handle_pmtud_get",
    "knet_handle_pmtud_getfreq",
    "knet_handle_pmtud_set",
    "knet_handle_pmtud_setfreq",
    "knet_handle_remove_datafd",
    "knet_handle_set_transport_reconnect_interval",
    "knet_handle_setfwd",
    "knet_host_add",
    "knet_host_enable_status_change_notify",
    "knet_host_get_host_list",
    "knet_host_get_id_by_host_name",
    "knet_host_get_name_by_host_id",
    "knet_host_get_policy",
    "knet_host_get_status",
    "knet_host_remove",
    "knet_host_set_name",
    "knet_host_set_policy",
    "knet_link_add_acl",
    "knet_link_clear_acl",
    "knet_link_clear_config",
    "knet_link_get_config",
    "knet_link_get_enable",
    "knet_link_get_link_list",
    "knet_link_get_ping_timers",
    "knet_link_get_pong_count",
    "knet_link_get_priority",
    "knet_link_get_status",
    "knet_link_insert_acl",
    "knet_link_rm_acl",
    "knet_link_set_config",
    "knet_link_set_enable",
    "knet_link_set_ping_timers",
    "knet_link_set_pong_count",
    "knet_link_set_priority",
    "knet_log_get_loglevel",
    "knet_log_get_loglevel_id",
    "knet_log_get_loglevel_name",
    "knet_log_get_subsystem_id",
    "knet_log_get_subsystem_name",
    "knet_log_set_loglevel",
    "knet_recv",
    "knet_send",
    "knet_send_sync",
    "knet_strtoaddr",
)
# Those that came later; 1.25 has the first three.
LATER_CALLS: Final[tuple[str, ...]] = (
    "knet_handle_crypto_rx_clear_traffic",
    "knet_handle_crypto_set_config",
    "knet_handle_crypto_use_config",
    "knet_get_crypto_cipher_list",
    "knet_get_crypto_hash_list",
    "knet_handle_enable_onwire_ver_notify",
    "knet_handle_get_host_defrag_bufs",
    "knet_handle_get_onwire_ver",
    "knet_handle_get_threads_timer_res",
    "knet_handle_set_host_defrag_bufs",
    "knet_handle_set_onwire_ver",
    "knet_handle_set_threads_timer_res",
    "knet_handle_setprio_dscp",
    "knet_link_enable_status_change_notify",
)
NOT_IN_1_25: Final = LATER_CALLS[3:]
NOT_THERE: Final = "Not in 1.25."

POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
KEYWORD_ONLY: Final = inspect.Parameter.KEYWORD_ONLY
ELLIPSIS: Final = "…"
FORM: Final = re.compile(
    r"(?P<how>await |async with |async for )?(?P<path>\w+(?:\.\w+)*)"
    r"(?:\((?P<arguments>.*)\))?(?P<assigned> = .+)?"
)
# What is named in running text: classes and what is in them, not values or C's names.
NAMED: Final = re.compile(r"[A-Z][a-z]\w*\b.*")


class Row(NamedTuple):
    call: str
    form: str
    differences: str


def rows() -> list[Row]:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `knet_")]
    return [Row(*(cell.strip() for cell in row)) for row in cells]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ROWS: Final = rows()
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.call.strip("`"))


class Thing(NamedTuple):
    """What a name stands for, and the type of what one gets by it, None for a function."""

    value: Any
    type: Any


def member(owner: Any, name: str) -> Thing:
    """What `name` of the class `owner` is."""
    assert inspect.isclass(owner), f"{owner!r} has no attributes to look into"
    found = inspect.getattr_static(owner, name, None)
    if isinstance(found, property):
        assert found.fget is not None
        return Thing(found, typing.get_type_hints(found.fget).get("return"))
    hints = typing.get_type_hints(owner)
    if name in hints:
        return Thing(found, hints[name])
    assert found is not None, f"{owner.__name__} has no {name!r}"
    value = getattr(owner, name)
    return Thing(value, owner if isinstance(value, owner) else None)


def resolve(path: str) -> Thing:
    """What a dotted name that begins in the package's public names is."""
    first, *rest = path.split(".")
    assert first in knet_trio.__all__, f"{first!r} is not public"
    value = getattr(knet_trio, first)
    thing = Thing(value, value if inspect.isclass(value) else None)
    for name in rest:
        thing = member(thing.type, name)
    return thing


def check_arguments(function: Any, arguments: str) -> None:
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    for argument in filter(None, (part.strip() for part in arguments.split(","))):
        if argument == ELLIPSIS:
            continue
        name, by_keyword, _ = argument.partition("=")
        assert name in parameters, f"there is no argument {name!r}, only {', '.join(parameters)}"
        unusable = POSITIONAL_ONLY if by_keyword else KEYWORD_ONLY
        assert parameters[name].kind is not unusable, f"{name!r} is {unusable.description}"


def is_context_manager(function: Any) -> bool:
    # One that `asynccontextmanager` made of a generator, or a function that returns one.
    if inspect.isasyncgenfunction(inspect.unwrap(function)):
        return True
    return hasattr(typing.get_origin(typing.get_type_hints(function)["return"]), "__aenter__")


def check_form(form: str) -> None:
    """Fail if `form`, such as `await Host.add_link(…, priority=)`, is not what there is."""
    match = FORM.fullmatch(form)
    assert match, f"{form!r} is not written as a name, a call or an assignment"
    thing = resolve(match["path"])
    is_call = match["arguments"] is not None
    if is_call:
        assert callable(thing.value), f"{form!r} cannot be called"
        check_arguments(thing.value, match["arguments"])
    else:
        assert not inspect.isroutine(thing.value), f"{form!r}: write its arguments"
    if match["assigned"]:
        settable = isinstance(thing.value, property) and thing.value.fset is not None
        assert settable, f"{form!r}: it cannot be set"
    how = (match["how"] or "").strip()
    assert (how == "await") is inspect.iscoroutinefunction(thing.value), f"{form!r}: await?"
    if how == "async with":
        assert is_context_manager(thing.value), f"{form!r} is not an async context manager"
    elif how == "async for":
        assert hasattr(thing.type, "__aiter__"), f"{form!r} cannot be iterated over"


def test_every_call_has_one_row() -> None:
    assert (len(CALLS), len(LATER_CALLS)) == (65, 14)
    calls: Counter[str] = Counter(row.call.strip("`") for row in ROWS)
    wanted: Counter[str] = Counter((*CALLS, *LATER_CALLS))
    assert not wanted - calls, "calls without a row"
    assert not calls - wanted, "rows too many"


def test_the_rows_say_which_calls_1_25_lacks() -> None:
    said = {row.call.strip("`") for row in ROWS if row.differences.startswith(NOT_THERE)}
    assert said == set(NOT_IN_1_25)


@every_row
def test_a_row_names_what_there_is(row: Row) -> None:
    forms = names(row.form)
    assert forms, "the form has no name in it"
    for form in forms:
        check_form(form)
    assert row.differences
    for name in names(row.differences):
        if NAMED.fullmatch(name):
            check_form(name)


@pytest.mark.parametrize(
    "form",
    [
        "open_handle(host_id, dscp=)",
        "async with open_handle(…, dscp=46)",
        "async with Handle.events()",
        "await Host.add_link(link_id, …, priority=)",
        "Handle.mtu",
        "Handle.mtu = 1500",
        "Link.acl.append(entry)",
        "Link.config.ping_interval",
        "Link.status.stats.latency_ave",
        "CryptoConfig",
        "CryptoConfig.cipher",
        "LinkPolicy.ACTIVE",
        "AclEntry.range(first, last, accept=False)",
        "async for Channel",
    ],
)
def test_a_right_form_is_right(form: str) -> None:
    check_form(form)


@pytest.mark.parametrize(
    ("form", "complaint"),
    [
        ("close_handle()", "not public"),
        ("Runtime.start()", "not public"),
        ("Handle.nothing", "no 'nothing'"),
        ("Handle.mtu.nothing", "no attributes"),
        ("LinkPolicy.NONE", "no 'NONE'"),
        ("CryptoConfig.secret", "no 'secret'"),
        ("Handle.data_mtu = 1500", "cannot be set"),
        ("LinkConfig.priority = 3", "cannot be set"),
        ("Handle.mtu()", "cannot be called"),
        ("Handle.events", "write its arguments"),
        ("Handle.add_host(host_id, colour=)", "no argument 'colour'"),
        ("Handle.add_host(host_id, name)", "keyword-only"),
        ("Handle.get_host(name)", "no argument 'name'"),
        ("Channel.send(data)", r"await\?"),
        ("await Channel.send_nowait(data)", r"await\?"),
        ("async with Handle.statistics()", "context manager"),
        ("async for Handle", "iterated over"),
        ("Handle dot mtu", "not written"),
    ],
)
def test_a_wrong_form_is_found(form: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_form(form)
