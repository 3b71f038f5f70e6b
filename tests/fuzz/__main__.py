"""Looks for bytes that break a target: ``python -m tests.fuzz --seconds 20 packet envelope``.

It needs atheris. Each target runs in a process of its own, since libFuzzer ends its process. What
it learns about the code is kept in the working directory, and it goes on from there the next time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.fuzz import TARGETS

CORPUS: Final = Path(__file__).parent / "corpus"
# Seeds are smaller, and so is all that tells one case from another.
MAX_INPUT: Final = 1024
# Seconds that one input may take, and MiB that the process may have.
SLOW: Final = 10
MEMORY: Final = 1024


def main() -> None:
    """Run the targets named on the command line, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: 20)")
    parser.add_argument("--work", type=Path, default=Path(".fuzz"), help="the working directory")
    parser.add_argument(
        "--keep", action="store_true", help="afterwards add to the corpus what runs more code"
    )
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}: {', '.join(TARGETS)}")
    failed = [
        target
        for target in options.targets or TARGETS
        if not run(target, options.work / target, options.seconds, keep=options.keep)
    ]
    if failed:
        sys.exit(f"found something: {', '.join(failed)}")


def run(target: str, work: Path, seconds: int, *, keep: bool) -> bool:
    """Fuzz ``target`` for so long; whether it held."""
    found = work / "found"
    found.mkdir(parents=True, exist_ok=True)
    corpus = CORPUS / target
    print(f"{target}: {seconds} s", flush=True)
    held = fuzz(
        target,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-timeout={SLOW}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={work}/",
        "-print_final_stats=1",
        str(found),
        str(corpus),
    )
    if held and keep:
        # By code alone: how often it runs makes differences without end.
        cover = ("-set_cover_merge=1", "-use_counters=0")
        held = fuzz(target, *cover, f"-max_len={MAX_INPUT}", str(corpus), str(found))
    return held


def fuzz(target: str, *arguments: str) -> bool:
    """One run of libFuzzer; whether all was well."""
    command = [sys.executable, "-m", "tests.fuzz.one", target, *arguments]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    main()
