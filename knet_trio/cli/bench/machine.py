"""What is known of the machine that the bench runs on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import cryptography
import trio
from cryptography.hazmat.backends.openssl import backend

_CPUINFO: Final = Path("/proc/cpuinfo")


@attrs.frozen
class Machine:
    """Facts that figures depend on. ``cpus`` is how many the bench may use; "" is unknown."""

    cpu: str
    cpus: int
    virtual: bool
    architecture: str
    kernel: str
    python: str
    trio: str
    cryptography: str
    openssl: str
    libknet: str
    date: str

    @classmethod
    def look(cls) -> Machine:
        """Return what is known of this one, now."""
        info = _cpuinfo()
        return cls(
            cpu=info.get("model name", ""),
            cpus=len(os.sched_getaffinity(0)),
            virtual="hypervisor" in info.get("flags", "").split(),
            architecture=platform.machine(),
            kernel=platform.release(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            trio=trio.__version__,
            cryptography=cryptography.__version__,
            openssl=backend.openssl_version_text(),
            libknet=_libknet(),
            date=datetime.now(UTC).date().isoformat(),
        )

    @property
    def text(self) -> str:
        """It in one line."""
        libknet = f", libknet {self.libknet}" if self.libknet else ""
        return (
            f"{self.date}, {self.cpu or self.architecture}, {self.cpus} CPUs"
            f"{', virtual' if self.virtual else ''}, kernel {self.kernel}, {self.python},"
            f" Trio {self.trio}, cryptography {self.cryptography}, {self.openssl}{libknet}"
        )


def _cpuinfo() -> dict[str, str]:
    """Return what the kernel says of the first CPU."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _libknet() -> str:
    """Return libknet's version, which its header does not tell."""
    program = shutil.which("pkg-config")
    if program is None:
        return ""
    done = subprocess.run(
        [program, "--modversion", "libknet"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
