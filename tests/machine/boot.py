"""Run a command in the machine: its output is ours, as it comes, and so is its exit status.

The machine sees the host's file system at the same paths, and may write: into memory, which is
gone with the machine. qemu emulates it, so it needs no rights. What the two say to each other is
in a folder of its own for each run: the command, and the exit status when it has ended. What the
kernel says goes into a file there, which is shown when the machine ends without a status.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.machine.build import Kernel, MachineError, make_initramfs

MEMORY: Final = 1536
CORES: Final = 2
# Set in the machine, and nowhere else.
INSIDE: Final = "KNET_TRIO_MACHINE"
# What a command in the machine knows of the environment outside.
PASSED_ON: Final = frozenset(
    {"CI", "HOME", "LANG", "NO_COLOR", "FORCE_COLOR", "PATH", "TERM", "TZ", "VIRTUAL_ENV"}
)
PASSED_ON_PREFIXES: Final = ("KNET_TRIO_", "LC_", "PYTEST_", "PYTHON")
# It matters to the host's files, which the machine does not change, and slows each import.
KEPT_BACK: Final = "PYTHONDONTWRITEBYTECODE"
# Seconds for the emulator to end in when it is told to.
GRACE: Final = 10.0
# Lines that are shown of what the kernel said.
LAST_WORDS: Final = 40


def run_in_machine(
    kernel: Kernel,
    command: Sequence[str],
    *,
    limit: float | None,
    writable: Path | None = None,
    terminal: bool = False,
) -> int:
    """Boot, run the command in the current folder as root, and turn the machine off.

    Args:
        kernel: What to boot.
        command: The program and its arguments.
        limit: Seconds after which the machine is ended, None for never.
        writable: A folder whose files are the host's: what is written there stays.
        terminal: Whether the command has our terminal, with its input; else it has no input.

    Returns:
        The exit status of the command.

    Raises:
        MachineError: The machine took longer than the limit, or ended before the command did.
    """
    with tempfile.TemporaryDirectory(prefix="knet-trio-machine-") as name:
        folder = Path(name)
        share = folder / "share"
        share.mkdir()
        (share / "command").write_text("\n".join(script(command, os.environ)))
        if writable is not None:
            (share / "writable").write_text(str(writable.resolve(strict=True)))
        if terminal:
            size = os.get_terminal_size()
            (share / "terminal").write_text(f"{size.lines} {size.columns}\n")
        initramfs = folder / "initramfs"
        initramfs.write_bytes(make_initramfs(kernel))
        console = folder / "console"
        emulator = list(
            emulation(kernel, initramfs, console, share, writable=writable, terminal=terminal)
        )
        ended = run_until(emulator, limit, terminal=terminal)
        status = share / "status"
        if status.exists():
            return int(status.read_text())
        said = console.read_text(errors="replace").splitlines()[-LAST_WORDS:]
        what = (
            "the machine has ended before the command"
            if ended
            else f"the command has not ended after {limit:g} s (--limit), so the machine was ended"
        )
        raise MachineError("\n".join([what, *(f"  kernel: {line}" for line in said)]))


def script(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The lines of a shell's script that runs the command as we would."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON or (name.startswith(PASSED_ON_PREFIXES) and name != KEPT_BACK)
    }
    # `python` is the interpreter that runs this.
    kept["PATH"] = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
    kept[INSIDE] = "1"
    for name, value in kept.items():
        yield f"export {name}={shlex.quote(value)}"
    yield f"cd {shlex.quote(os.getcwd())}"
    yield f"exec {shlex.join(command)}"


def emulation(
    kernel: Kernel,
    initramfs: Path,
    console: Path,
    share: Path,
    *,
    writable: Path | None,
    terminal: bool,
) -> Iterator[str]:
    """The emulator and its arguments."""
    emulator = shutil.which("qemu-system-x86_64")
    assert emulator is not None
    yield emulator
    # No hardware virtualisation: where it is offered it need not work, in containers above all.
    yield from ("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(CORES), "-m", str(MEMORY))
    yield from ("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none")
    # A panic ends it, by a reboot that is none. What some processors need costs much, emulated.
    arguments = "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off"
    yield from ("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", arguments)
    yield from ("-serial", f"file:{quote(console)}")
    signals = "off" if terminal else "on"
    yield from ("-chardev", f"stdio,id=output,signal={signals}", "-device", "virtio-serial-pci")
    port = "virtconsole" if terminal else "virtserialport"
    yield from ("-device", f"{port},chardev=output")
    shares = {"host": Path("/"), "modules": kernel.modules}
    for tag, path in shares.items():
        yield from share_folder(tag, path, readonly="on")
    yield from share_folder("run", share)
    if writable is not None:
        yield from share_folder("writable", writable.resolve())


def share_folder(tag: str, path: Path, *, readonly: str = "off") -> Iterator[str]:
    """Arguments by which the machine has a folder of the host."""
    options = f"security_model=none,readonly={readonly},multidevs=remap"
    yield from ("-fsdev", f"local,id={tag},path={quote(path)},{options}")
    yield from ("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}")


def quote(path: Path) -> str:
    """A path as part of an option of qemu, where a comma ends it."""
    return str(path).replace(",", ",,")


def run_until(command: Sequence[str], limit: float | None, *, terminal: bool) -> bool:
    """Run it, and end it at the limit; whether it has ended before."""
    # At the end of its input it would call its output closed too.
    with subprocess.Popen(command, stdin=None if terminal else subprocess.PIPE) as process:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return False
        finally:
            end(process)
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """The process is gone afterwards. If it can, it sets our terminal right before."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
