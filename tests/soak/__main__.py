"""Three hosts for hours on a bad network: ``python -m tests.soak --hours 1``. It needs root."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

import attrs
import trio

from tests.interop.namespaces import namespaces_missing
from tests.soak.driver import Plan, soak
from tests.soak.judge import judge, summarize


def main() -> int:
    """Run, say how it goes, and judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, help="what decides all but chance and time")
    helps = {
        "rekey": "seconds from one key to the next",
        "cut": "seconds from one cut of a link to the next",
        "mend": "seconds that a cut lasts",
        "loss": "share of packets that get lost",
        "rate": "messages a second from each host",
        "sample": "seconds from one look at the memory to the next",
    }
    for field in attrs.fields(Plan):
        if field.name in helps:
            text = f"{helps[field.name]} (default: {field.default:g})"
            parser.add_argument(f"--{field.name}", type=float, default=field.default, help=text)
    options = vars(parser.parse_args())
    missing = namespaces_missing()
    if missing is not None:
        parser.error(missing)
    hours, seed = options.pop("hours"), options.pop("seed")
    seed = secrets.randbelow(2**32) if seed is None else seed
    plan = Plan(seconds=hours * 3600, seed=seed, **options)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s: {text}", flush=True)

    say(f"seed {seed}")
    outcome = trio.run(soak, plan, say)
    print(summarize(outcome))
    complaints = judge(outcome)
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    print("something is wrong" if complaints else "all is well")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
