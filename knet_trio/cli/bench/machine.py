"""The facts about the machine that the bench runs on."""

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
    """The facts about a machine that figures depend on. An empty string is unknown.

    Attributes:
        cpu: The model of the CPU.
        cpus: The number of CPUs that the bench may use.
        virtual: True for a virtual machine.
        architecture: The architecture.
        kernel: The version of the kernel.
        python: The implementation and version of Python.
        trio: The version of Trio.
        cryptography: The version of cryptography.
        openssl: The version of OpenSSL.
        libknet: The version of libknet.
        date: The date of the measurement.
    """

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
        """Return the facts about this machine, now."""
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
        """The facts in one line."""
        libknet = f", libknet {self.libknet}" if self.libknet else ""
        return (
            f"{self.date}, {self.cpu or self.architecture}, {self.cpus} CPUs"
            f"{', virtual' if self.virtual else ''}, kernel {self.kernel}, {self.python},"
            f" Trio {self.trio}, cryptography {self.cryptography}, {self.openssl}{libknet}"
        )


def _cpuinfo() -> dict[str, str]:
    """Return the kernel's record of the first CPU."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _libknet() -> str:
    """Return libknet's version from pkg-config, since its header does not have it."""
    program = shutil.which("pkg-config")
    if program is None:
        return ""
    done = subprocess.run(
        [program, "--modversion", "libknet"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
