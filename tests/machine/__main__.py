"""Run a command in the machine: ``python -m tests.machine COMMAND``, or a shell without one."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.machine.boot import run_in_machine
from tests.machine.build import MachineError, check_tools, find_kernel

LIMIT = 600.0


def main() -> int:
    """Make what is missing of the machine, and run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.machine",
        description="Run a command in a virtual machine whose kernel has SCTP and netem, as root,"
        " with this system's programs and files. What it writes is gone afterwards.",
        epilog="example: python -m tests.machine --writable seen -- tcpdump -w seen/lo -i lo",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="SECONDS",
        help="end the machine after so long, 0 for never (default: %(default)g; never for a shell)",
    )
    parser.add_argument(
        "--writable",
        type=Path,
        metavar="FOLDER",
        help="a folder in which what the command writes stays",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="download the newest kernel, also if there is one"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run (default: a shell)")
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not command and not terminal:
        parser.error("a shell needs a terminal: say which command to run")
    limit = options.limit if command and options.limit > 0 else None
    # The emulator ends with us.
    signal.signal(signal.SIGTERM, end)
    try:
        check_tools()
        return run_in_machine(
            find_kernel(fresh=options.fresh),
            command or ["bash"],
            limit=limit,
            writable=options.writable,
            terminal=terminal,
        )
    except MachineError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def end(number: int, _: FrameType | None) -> None:
    """End as by that signal, with all that was begun."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
