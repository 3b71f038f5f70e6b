"""The process of one target: ``python -m tests.fuzz.one packet`` and libFuzzer's arguments."""

from __future__ import annotations

import shlex
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Protocol, cast


class _Atheris(Protocol):
    """What is used of atheris, which has no types."""

    @abstractmethod
    def instrument_imports(self, include: Sequence[str]) -> AbstractContextManager[None]:
        """Have modules imported in this context tell which of their code runs."""

    @abstractmethod
    def Setup(self, arguments: list[str], check: Callable[[bytes], None]) -> None:  # noqa: N802
        """Give libFuzzer its options and what to call."""

    @abstractmethod
    def Fuzz(self) -> None:  # noqa: N802
        """Run, and end the process."""


def main() -> None:
    """Fuzz the target that is the first argument, as the others say."""
    atheris = cast("_Atheris", import_module("atheris"))
    target = sys.argv[1]
    # To merge, libFuzzer has a shell start its program again.
    sys.argv[:2] = [shlex.join([sys.executable, "-m", "tests.fuzz.one", target])]
    # Only what is imported in here tells libFuzzer where it has been.
    with atheris.instrument_imports(include=["knet_trio", "tests.fuzz"]):
        check = cast("Callable[[bytes], None]", import_module(f"tests.fuzz.{target}").check)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
