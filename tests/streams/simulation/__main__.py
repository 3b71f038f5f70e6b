"""Plays the scenarios of many seeds: ``python -m tests.streams.simulation --seeds 1000``."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from typing import NamedTuple

from tests.simulation.play import causes
from tests.streams.simulation.play import play
from tests.streams.simulation.scenario import make_scenario


class Verdict(NamedTuple):
    """On a seed: the seconds it took, what was wrong, and how its calls ended."""

    seed: int
    took: float
    failed: str
    results: dict[str, int]


def judge(seed: int) -> Verdict:
    """Play the scenario of a seed."""
    # What the faults do to hosts is no news.
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    began = time.perf_counter()
    failed, results = "", dict[str, int]()
    try:
        results = play(make_scenario(seed)).results
    except Exception as error:
        failed = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes(error))
    return Verdict(seed, time.perf_counter() - began, failed, results)


def main() -> int:
    """Judge seeds on all processors, and tell of those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--slow", type=float, default=60.0, help="tell of those that take longer")
    options = parser.parse_args()
    failed = 0
    results: Counter[str] = Counter()
    began = time.perf_counter()
    with multiprocessing.Pool(options.jobs) as pool:
        seeds = range(options.first, options.first + options.seeds)
        for done, verdict in enumerate(pool.imap_unordered(judge, seeds), 1):
            results.update(verdict.results)
            if verdict.failed:
                failed += 1
                print(f"seed {verdict.seed} failed: {verdict.failed}", flush=True)
            if verdict.took > options.slow:
                print(f"seed {verdict.seed} took {verdict.took:.0f} s", flush=True)
            if done % 50 == 0:
                print(f"{done} done, {failed} failed", flush=True)
    took = time.perf_counter() - began
    calls = ", ".join(f"{count} {result}" for result, count in sorted(results.items()))
    print(f"{options.seeds} scenarios in {took:.0f} s, {failed} failed; of their calls {calls}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
