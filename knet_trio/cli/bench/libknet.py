"""The libknet peer: found in a checkout, and compiled for this run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import trio

import knet_trio
from knet_trio.cli.bench.process import BenchError

_IN_CHECKOUT: Final = Path(knet_trio.__file__).parents[1] / "tests" / "bench" / "libknet_peer"
_PACKAGES: Final = "apt-get install gcc libc6-dev libknet-dev"


async def build(source: Path | None, folder: Path) -> Path:
    """Compile what is in ``source``, None for that of a checkout, into ``folder``.

    Returns the program. Raises BenchError if there is none.
    """
    program = folder / "libknet_peer"
    if source is None:
        source = _IN_CHECKOUT
        if not source.is_dir():
            raise BenchError("its C source is in a checkout only; --libknet-peer names the folder")
    files = sorted(map(str, source.glob("*.c")))
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BenchError(f"the libknet peer needs a compiler: {_PACKAGES}")
    if not files:
        raise BenchError(f"there is no C source in {source}")
    command = [compiler, "-O2", "-o", str(program), *files, "-lknet", "-lm"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchError(f"the libknet peer does not compile ({_PACKAGES}?):\n{said}")
    return program
