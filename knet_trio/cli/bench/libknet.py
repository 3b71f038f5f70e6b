"""The libknet peer: its C source is part of the package, and is compiled for each run."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Final

import trio

import knet_trio.cli.bench
from knet_trio.cli.bench.process import BenchError

_SOURCE: Final = "libknet_peer"
_ENDINGS: Final = (".c", ".h")
_PACKAGES: Final = "apt-get install gcc libc6-dev libknet-dev"


async def build(source: Path | None, folder: Path) -> Path:
    """Compile the libknet peer.

    Args:
        source: The folder with the C source, None for that of the package.
        folder: The folder for the program.

    Returns:
        The path of the program.

    Raises:
        BenchError: There is no compiler or no source, or it does not compile.
    """
    program = folder / _SOURCE
    if source is None:
        source = _unpack(folder / "source")
    units = sorted(map(str, source.glob("*.c")))
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BenchError(f"the libknet peer needs a compiler: {_PACKAGES}")
    if not units:
        raise BenchError(f"there is no C source in {source}")
    command = [compiler, "-O2", "-o", str(program), *units, "-lknet", "-lm"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    if done.returncode:
        output = done.stderr.decode(errors="replace").strip()
        raise BenchError(f"the libknet peer does not compile ({_PACKAGES}?):\n{output}")
    return program


def _unpack(folder: Path) -> Path:
    """Copy the C source out of the package, which may be an archive, and return the folder."""
    folder.mkdir()
    for entry in files(knet_trio.cli.bench).joinpath(_SOURCE).iterdir():
        if entry.name.endswith(_ENDINGS):
            (folder / entry.name).write_bytes(entry.read_bytes())
    return folder
