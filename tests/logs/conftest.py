from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.logs.reading import Line, Logged, LogPipe


@pytest.fixture
def pipe() -> Iterator[LogPipe]:
    pipe = LogPipe()
    yield pipe
    pipe.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    caplog.set_level(logging.DEBUG, "knet_trio")

    def take() -> list[Line]:
        lines = [
            Line(
                record.name.removeprefix("knet_trio."),
                record.levelname,
                record.getMessage(),
            )
            for record in caplog.records
            if record.name.startswith("knet_trio.")
        ]
        caplog.clear()
        return lines

    return take
