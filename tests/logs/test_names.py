"""Subsystems and levels: what they are called, and what they let through."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from knet_trio import (
    InvalidArgumentError,
    LogLevel,
    LogSubsystem,
    get_log_level_id,
    get_log_level_name,
    get_log_subsystem_id,
    get_log_subsystem_name,
    open_handle,
)
from knet_trio._logs.log import HandleLog
from tests.logs.reading import Logged, LogPipe, Record
from tests.logs.worlds import no_reminders


def test_names_and_numbers_go_both_ways() -> None:
    for subsystem in LogSubsystem:
        assert get_log_subsystem_id(get_log_subsystem_name(subsystem)) is subsystem
    for level in LogLevel:
        assert get_log_level_id(get_log_level_name(level)) is level
    assert get_log_subsystem_name(4) == "link"
    assert get_log_subsystem_id("PMTUD") == 22
    assert get_log_level_name(0) == "ERROR"
    assert get_log_level_id("Debug") == 3


def test_what_is_not_known_gets_the_librarys_answer() -> None:
    assert get_log_subsystem_name(200) == "unknown"
    assert get_log_subsystem_id("nobody") is LogSubsystem.UNKNOWN
    assert get_log_level_name(200) == "ERROR"
    assert get_log_level_id("loud") is LogLevel.ERROR


@pytest.mark.parametrize("number", [-1, 256, True, "4", None])
def test_what_is_no_number_at_all_is_refused(number: int) -> None:
    for call in (get_log_subsystem_name, get_log_level_name):
        with pytest.raises(InvalidArgumentError, match="0 to 255"):
            call(number)


@pytest.mark.parametrize("name", [4, None, b"link"])
def test_what_is_no_name_at_all_is_refused(name: str) -> None:
    for call in (get_log_subsystem_id, get_log_level_id):
        with pytest.raises(InvalidArgumentError, match="is not valid"):
            call(name)


# Levels.


async def test_levels_are_of_each_handle_and_subsystem() -> None:
    async with open_handle(1) as a, open_handle(2, log_level="warning") as b:
        assert {a.get_log_level(subsystem) for subsystem in LogSubsystem} == {LogLevel.INFO}
        assert {b.get_log_level(subsystem) for subsystem in LogSubsystem} == {LogLevel.WARNING}
        a.set_log_level("Link", "debug")
        a.set_log_level(2, 0)
        assert a.get_log_level("link") is a.get_log_level(4) is LogLevel.DEBUG
        assert a.get_log_level(LogSubsystem.HOST) == get_log_level_id("error")
        assert a.get_log_level("handle") is LogLevel.INFO
        assert b.get_log_level("link") is LogLevel.WARNING


NOTHING: Any = None


@pytest.mark.parametrize("wrong", ["nobody", "", 8, 255, -1, 256, True, NOTHING])
async def test_an_unknown_subsystem_or_level_is_refused(wrong: int) -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError):
            handle.get_log_level(wrong)
        with pytest.raises(InvalidArgumentError):
            handle.set_log_level(wrong, "info")
        with pytest.raises(InvalidArgumentError):
            handle.set_log_level("link", wrong)
        assert handle.get_log_level("link") is LogLevel.INFO
    # As an option, None is the default.
    if wrong != NOTHING:
        with pytest.raises(InvalidArgumentError):
            await open_handle(1, log_level=wrong).__aenter__()


async def test_the_refusal_says_what_there_is() -> None:
    async with open_handle(1) as handle:
        with pytest.raises(InvalidArgumentError, match=r"link \(4\).*rx \(24\)"):
            handle.set_log_level("nobody", "info")
        with pytest.raises(InvalidArgumentError, match=r"error \(0\).*debug \(3\)"):
            handle.set_log_level("link", 10)


@pytest.mark.parametrize("level", LogLevel)
def test_a_level_lets_through_itself_and_what_matters_more(
    level: LogLevel, logged: Logged, pipe: LogPipe
) -> None:
    log = HandleLog(7, level=level, fd=pipe.writer, remind=no_reminders)
    for say in (log.error, log.warning, log.info, log.debug):
        say(LogSubsystem.LINK, "%d of %s", 1, "many")
    names = ["ERROR", "WARNING", "INFO", "DEBUG"][: level + 1]
    assert logged() == [("link", name, "[host 7] 1 of many") for name in names]
    # The descriptor is the handle's own, so its records do not name the handle.
    assert pipe.read() == [Record("1 of many", 4, number) for number in range(level + 1)]
    log.close()


class Untouchable:
    """It must not be looked at."""

    def __str__(self) -> str:
        raise AssertionError("text was made that nobody sees")

    __repr__ = __str__


def test_what_nobody_sees_is_not_put_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "knet_trio")
    log = HandleLog(1, level="info", remind=no_reminders)
    log.debug(LogSubsystem.TX, "%s", Untouchable())
    # `logging` does not want it, and there is no descriptor.
    log.warning(LogSubsystem.TX, "%s", Untouchable())
    log.warning(LogSubsystem.TX, "%s", Untouchable(), key="not even counted")
    with pytest.raises(AssertionError, match="nobody sees"):
        log.error(LogSubsystem.TX, "%s", Untouchable())
    log.close()


def test_a_record_names_the_place_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    log = HandleLog(1, remind=no_reminders)
    log.warning(LogSubsystem.TX, "here")
    assert caplog.records[0].funcName == test_a_record_names_the_place_it_comes_from.__name__
    assert caplog.records[0].pathname == __file__
