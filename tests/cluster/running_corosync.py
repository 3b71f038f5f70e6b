"""A corosync that runs in a namespace, with an /etc/corosync and an /etc/hosts of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.cluster import KEY, PATIENCE
from tests.interop.namespaces import NamespacePair, namespaces_missing

ROOT: Final = Path(__file__).resolve().parents[2]
HOSTNAME: Final = "alpha"
# They are appended to a file, so that what corosync does with it can be read from its log.
LOGGING: Final = "\nlogging {\n  debug: on\n  to_stderr: yes\n  to_logfile: no\n}\n"
# Each place that it writes to is its own.
PLACES: Final = ("/run", "/dev/shm", "/var/lib/corosync", "/var/log/corosync")


def corosync_missing() -> str | None:
    """None when a corosync can be run here, else why not and what to do."""
    if shutil.which("corosync") is None or shutil.which("corosync-cmapctl") is None:
        return "corosync is not there: apt-get install corosync"
    return namespaces_missing()


def hosts_file() -> str:
    """Names for the addresses of a pair of namespaces, each with an IPv4 and an IPv6 address."""
    lines = ["127.0.0.1 localhost"]
    for side, name in enumerate(("alpha", "beta")):
        for link in range(2):
            lines.append(f"{NamespacePair.v4(side, link)} ring{link}.{name}")
            lines.append(f"{NamespacePair.v6(side, link)} ring{link}.{name}")
    return "\n".join(lines) + "\n"


class Corosync:
    """A running corosync."""

    def __init__(self, process: subprocess.Popen[str], log: Path, pid: int) -> None:
        self._process = process
        self._log = log
        self._pid = pid

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def run(self, *command: str) -> str:
        """Run a command beside it, with the files that it sees; what that prints."""
        spaces = [f"--{kind}=/proc/{self._pid}/ns/{name}" for kind, name in _SPACES]
        # What this runs in may have another root than its mount namespace.
        spaces.append(f"--root=/proc/{self._pid}/root")
        done = subprocess.run(
            ["nsenter", *spaces, *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log
        return done.stdout

    def cmap(self) -> dict[str, str]:
        """Its keys and their values."""
        rows = re.findall(r"^(\S+) \(\w+\) = (.*)$", self.run("corosync-cmapctl"), re.MULTILINE)
        return dict(rows)

    def describe(self) -> dict[str, Any]:
        """What knet_trio says of the file, in the same place."""
        path = "/etc/corosync/corosync.conf"
        said = self.run(
            "sh", "-c", f"cd {ROOT} && {sys.executable} -W error -m tests.cluster.describe {path}"
        )
        found: dict[str, Any] = json.loads(said)
        return found


_SPACES: Final = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))


@contextmanager
def running(
    pair: NamespacePair, text: str, directory: Path, *, hostname: str = HOSTNAME
) -> Generator[Corosync]:
    """Run corosync with a file in side 0 of a pair of namespaces, until the block ends."""
    configuration = directory / "etc"
    configuration.mkdir()
    (configuration / "corosync.conf").write_text(text + LOGGING)
    for name, key in (("authkey", KEY[:256]), ("other.key", KEY[:1024])):
        (configuration / name).write_bytes(key)
        (configuration / name).chmod(0o400)
    hosts = directory / "hosts"
    hosts.write_text(hosts_file())
    script = [
        "set -e",
        f"hostname {hostname}",
        f"mount --bind {configuration} /etc/corosync",
        f"mount --bind {hosts} /etc/hosts",
        *(f"mount -t tmpfs none {place}" for place in PLACES if Path(place).is_dir()),
        "echo $$",
        f"exec corosync -f -c /etc/corosync/corosync.conf 2>{directory}/log",
    ]
    # The log is opened before /run and the like are hidden, so the test can read it.
    enter = pair.within(0, "unshare", "--mount", "--uts")
    log = directory / "log"
    log.touch()
    with subprocess.Popen(
        [*enter, "sh", "-c", "\n".join(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            pid = int(process.stdout.readline())
            corosync = Corosync(process, log, pid)
            _wait_ready(corosync, process)
            yield corosync
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(corosync: Corosync, process: subprocess.Popen[str]) -> None:
    """Return when it provides its services, which the log tells and nothing else."""
    ends = time.monotonic() + PATIENCE
    while "ready to provide service" not in corosync.log:
        assert process.poll() is None, corosync.log
        assert time.monotonic() < ends, corosync.log
        time.sleep(0.05)


def is_accepted(path: Path) -> bool:
    """Whether corosync takes a file; it only tests it."""
    done = subprocess.run(
        ["corosync", "-t", "-c", str(path)],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode == 0
