"""Makes trials of the key-value store: ``python -m tests.examples --seeds 1000``."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections import Counter

import trio

from tests.examples.stores import slow_disk
from tests.examples.trial import play


def main() -> int:
    """Make the trials of many seeds, and tell of those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many trials")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    logging.getLogger("knet_trio").setLevel(logging.CRITICAL)
    trio.to_thread.run_sync = slow_disk  # type: ignore[assignment]
    failed = 0
    kinds: Counter[str] = Counter()
    for seed in range(options.first, options.first + options.seeds):
        try:
            trial = play(seed)
            kinds.update(one.kind for one in trial.history)
            kinds["set, perhaps"] += sum(one.ended == math.inf for one in trial.history)
            kinds["not set"] += len(trial.refused)
            trial.check()
        except Exception as error:
            failed += 1
            print(f"seed {seed} failed: {error!r}", flush=True)
    print(f"{options.seeds} trials, {failed} failed; {dict(kinds)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
