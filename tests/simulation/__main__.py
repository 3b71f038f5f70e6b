"""Plays the scenarios of many seeds: ``python -m tests.simulation --seeds 1000 --hours 0.1``."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from tests.simulation.scenario import AEAD_CIPHERS, Kind, make_scenario
from tests.simulation.shrink import failure, shrink


class Verdict(NamedTuple):
    """On a seed: the seconds it took, and what was wrong."""

    seed: int
    took: float
    failed: str


def judge(seed: int, hours: float) -> Verdict:
    """Play the scenario of a seed."""
    # What the faults do to hosts is no news.
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    began = time.perf_counter()
    failed = failure(make_scenario(seed, hours))
    return Verdict(seed, time.perf_counter() - began, failed)


def _choose(first: int, count: int, hours: float, *, aead: bool) -> Iterator[int]:
    """As many seeds from ``first`` on; with ``aead`` without those that do not have it."""
    seeds = (seed for seed in itertools.count(first) if not aead or _has_aead(seed, hours))
    return itertools.islice(seeds, count)


def _has_aead(seed: int, hours: float) -> bool:
    scenario = make_scenario(seed, hours)
    faults = (fault for act in scenario.acts for fault in act)
    return scenario.cipher in AEAD_CIPHERS or any(
        fault.kind is Kind.REKEY and fault.value for fault in faults
    )


def main() -> int:
    """Judge seeds on all processors, and tell of those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--hours", type=float, default=0.0, help="simulated hours of each")
    parser.add_argument("--aead", action="store_true", help="only those with model aead")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--shrink", action="store_true", help="find the least that still fails")
    options = parser.parse_args()
    failed: list[Verdict] = []
    began = time.perf_counter()
    with multiprocessing.Pool(options.jobs) as pool:
        seeds = list(_choose(options.first, options.seeds, options.hours, aead=options.aead))
        play = partial(judge, hours=options.hours)
        for done, verdict in enumerate(pool.imap_unordered(play, seeds), 1):
            if verdict.failed:
                failed.append(verdict)
                print(f"seed {verdict.seed} failed: {verdict.failed}", flush=True)
            if done % 100 == 0:
                print(f"{done} done, {len(failed)} failed", flush=True)
    took = time.perf_counter() - began
    print(f"{options.seeds} scenarios in {took:.0f} s, {len(failed)} failed")
    if options.shrink:
        logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
        for verdict in failed:
            least = shrink(make_scenario(verdict.seed, options.hours))
            print(f"seed {verdict.seed}: {failure(least)}\n{json.dumps(least.to_dict())}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
