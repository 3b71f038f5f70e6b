"""Rounds in which every contender has its turn, one case after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from knet_trio.cli.bench.bed import Bed
from knet_trio.cli.bench.case import Case, Measured
from knet_trio.cli.bench.disturbance import look
from knet_trio.cli.bench.process import BenchError
from knet_trio.cli.bench.result import CaseResult
from knet_trio.cli.ending import first_of

# A warm-up is short: it only loads what the first run of a contender finds cold.
_WARM_UP_SECONDS: Final = 0.5
# Seconds for setting up and removing processes and networks.
_PATIENCE: Final = 60.0
# A turn's time limit in times of a measurement: twice the longest turn.
_LONGEST: Final = 10


class Progress(ABC):
    """The output of the progress. Called between runs only, because output takes time."""

    @abstractmethod
    def begin_case(self, case: Case, place: str, rounds: int) -> None:
        """Show that a case of ``rounds`` rounds begins.

        Args:
            case: The case.
            place: Its place among all cases, such as ``3/12``.
            rounds: The number of its rounds.
        """

    @abstractmethod
    def begin_turn(self, case: Case, round_number: int, contender: str) -> None:
        """Show that a turn begins; round 0 is the warm-up."""

    @abstractmethod
    def end_turn(self, case: Case, round_number: int, contender: str, measured: Measured) -> None:
        """Show that a turn has ended, with its values."""

    @abstractmethod
    def fail(self, case: Case, why: str) -> None:
        """Show that a case has failed, and why."""


async def run_cases(
    cases: Sequence[Case], bed: Bed, *, rounds: int, progress: Progress
) -> list[CaseResult]:
    """Measure the cases, one after the other. Before its first case, a contender warms up.

    The other cases are measured even if one fails.

    Args:
        cases: The cases.
        bed: Starts the contenders.
        rounds: The number of rounds of each case, unless a case has fewer.
        progress: Shows the progress.
    """
    results: list[CaseResult] = []
    warm: set[str] = set()
    for number, case in enumerate(cases, 1):
        result = CaseResult(case, case_contenders(case, bed))
        count = rounds if case.rounds is None else min(rounds, case.rounds)
        progress.begin_case(case, f"{number}/{len(cases)}", count)
        await _run_case(result, bed, count, progress, warm)
        if result.failure is not None:
            progress.fail(case, result.failure)
        results.append(result)
    return results


def case_contenders(case: Case, bed: Bed) -> tuple[str, ...]:
    """Return the contenders of a case that are available."""
    return tuple(name for name in case.contenders if name in bed.commands)


async def _run_case(
    result: CaseResult, bed: Bed, rounds: int, progress: Progress, warm: set[str]
) -> None:
    case = result.case
    brief = attrs.evolve(bed, seconds=min(bed.seconds, _WARM_UP_SECONDS))
    cold = [name for name in result.contenders if case.warm_up and name not in warm]
    warm.update(cold)
    await result.yardstick.read()
    for number in range(0 if cold else 1, rounds + 1):
        turns: dict[str, Measured] = {}
        for contender in result.contenders if number else cold:
            progress.begin_turn(case, number, contender)
            before = look()
            try:
                with trio.fail_after(_limit(bed)):
                    # A new network for each run, without anything left by the run before.
                    async with bed.open_network(case) as network:
                        turns[contender] = await case.measure(
                            bed if number else brief, contender, network
                        )
            except* BenchError as errors:
                result.failure = f"{contender}: {first_of(errors)}"
            except* trio.TooSlowError:
                result.failure = f"{contender}: not done after {_limit(bed):g} s"
            if result.failure is not None:
                return
            if number:
                result.others.append(look().cores_since(before))
            progress.end_turn(case, number, contender, turns[contender])
        if number:
            result.rounds.append(turns)
            await result.yardstick.read()


def _limit(bed: Bed) -> float:
    """Return the time limit of a turn, in seconds."""
    return _PATIENCE + _LONGEST * bed.seconds + bed.load_seconds + bed.settle_seconds
