"""The kernel of the machine and the initramfs that it starts from.

The kernel is Debian's, unpacked from its package into the user's cache once, and not installed.
Its modules stay there, all of them: the machine loads from there what it is asked for. The
initramfs has only those that it takes to get there.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "linux-image-amd64"
# Each program, and Debian's package of it.
TOOLS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "modprobe": "kmod",
    "depmod": "kmod",
}
# Until the host's file system is the root.
EARLY: Final = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
GUEST: Final = Path(__file__).parent / "guest"
# What no network needs is two thirds of a kernel's modules.
LEFT_OUT: Final = ("sound", "drivers/gpu", "drivers/media", "drivers/iio", "drivers/infiniband")


class MachineError(Exception):
    """The machine cannot be made or run; the message says why, and what to do."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that was unpacked."""

    folder: Path
    version: str

    @property
    def image(self) -> Path:
        """What is booted."""
        return self.folder / "boot" / f"vmlinuz-{self.version}"

    @property
    def modules(self) -> Path:
        """What belongs into the machine's `/lib/modules/VERSION`."""
        return self.folder / "lib" / "modules" / self.version


def check_tools() -> None:
    """Raise what to install where something is missing."""
    if platform.machine() != "x86_64":
        raise MachineError(
            f"the machine runs this system's programs on an x86_64 kernel, and this is"
            f" {platform.machine()}: use an x86_64 host"
        )
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None}
    if missing:
        raise MachineError(
            "the machine needs more than is installed:"
            f" apt-get install --no-install-recommends {' '.join(sorted(missing))}"
        )


def find_kernel(*, fresh: bool = False) -> Kernel:
    """The kernel in the cache, downloaded first if there is none, or if a `fresh` one is wanted."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "knet_trio" / "machine" / PACKAGE
    if fresh and folder.exists():
        shutil.rmtree(folder)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unpacking-") as name:
            place = Path(name)
            unpacked = place / "kernel"
            unpack(download(place), unpacked)
            try:
                unpacked.rename(folder)
            except OSError:
                # Somebody else was faster.
                if not folder.exists():
                    raise
    (modules,) = (folder / "lib" / "modules").iterdir()
    return Kernel(folder, modules.name)


def download(folder: Path) -> Path:
    """Have apt put the package of the newest kernel into the folder; the file."""
    try:
        name = newest_package()
        run("apt-get", "download", "-qq", name, cwd=folder)
    except MachineError:
        # There are no lists of packages yet, or they are so old that their files are gone.
        run("apt-get", "update", "-qq")
        name = newest_package()
        run("apt-get", "download", "-qq", name, cwd=folder)
    (file,) = folder.glob("*.deb")
    return file


def newest_package() -> str:
    """The package with the kernel itself, on which `PACKAGE` depends."""
    for line in run("apt-cache", "depends", PACKAGE).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    raise MachineError(f"apt knows no {PACKAGE}: the machine's kernel is Debian's")


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package with a kernel into a folder, where no module depends on what is left out."""
    folder.mkdir()
    run("dpkg-deb", "-x", str(package), str(folder))
    (modules,) = (folder / "lib" / "modules").iterdir()
    for name in LEFT_OUT:
        shutil.rmtree(modules / "kernel" / name, ignore_errors=True)
    run("depmod", "-b", str(folder), modules.name)


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command; what it says. MachineError if it fails."""
    # Only root has these on its path.
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise MachineError(f"there is no {command[0]}: the machine is made on Debian") from None
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def make_initramfs(kernel: Kernel) -> bytes:
    """The archive from which the machine starts."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    files = list(early_modules(kernel))
    archive = Archive()
    for name in ("bin", "dev", "host", "modules", "root", "scratch"):
        archive.add(name, stat.S_IFDIR | 0o755)
    # The kernel wants it before the first process mounts anything.
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, Path(busybox).read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, (GUEST / "init").read_bytes())
    archive.add("start", stat.S_IFREG | 0o644, (GUEST / "start").read_bytes())
    order = "".join(f"{file.name}\n" for file in files)
    archive.add("modules/order", stat.S_IFREG | 0o644, order.encode())
    for file in files:
        archive.add(f"modules/{file.name}", stat.S_IFREG | 0o644, file.read_bytes())
    return archive.end()


def early_modules(kernel: Kernel) -> Iterator[Path]:
    """The files of the modules in `EARLY` and of those that they need, in the order to load."""
    seen = set[Path]()
    for name in EARLY:
        where = ("-d", str(kernel.folder), "-S", kernel.version)
        for line in run("modprobe", *where, "--show-depends", name).splitlines():
            # The others are part of the kernel.
            if line.startswith("insmod "):
                file = Path(line.split()[1])
                if file not in seen:
                    seen.add(file)
                    yield file


class Archive:
    """An archive in the format `newc` of cpio, which kernels read."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._entries = 0

    def add(
        self, name: str, mode: int, data: bytes = b"", *, device: tuple[int, int] = (0, 0)
    ) -> None:
        """Append a file, a folder or a device; its folder has to be there before."""
        self._entries += 1
        # inode, mode, owner, group, links, time, size, where it is on, what it is, name, checksum.
        numbers = (self._entries, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08x" % number for number in numbers)
        self._parts += [pad(header + name.encode() + b"\0"), pad(data)]

    def end(self) -> bytes:
        """The archive."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def pad(data: bytes) -> bytes:
    """Fill up to a multiple of four."""
    return data + bytes(-len(data) % 4)
