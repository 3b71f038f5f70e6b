"""The contents of the packages: `python -m tests.packaging dist` compares them with the repository.

With ``--release`` the placeholders of addresses that nobody has yet are an error too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Final

from knet_trio import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
NAME: Final = f"knet_trio-{__version__}"
# Below this top-level domain there is never a host (RFC 2606).
PLACEHOLDER: Final = "knet-trio.invalid"
LICENSES: Final = ("LICENSE-APACHE", "LICENSE-MIT")


def list_tracked(*below: str) -> set[str]:
    """Return the files that git tracks, by their paths from the root."""
    done = subprocess.run(
        ["git", "ls-files", "-z", *below], cwd=ROOT, capture_output=True, check=True
    )
    return set(done.stdout.decode().rstrip("\0").split("\0"))


def compare(what: str, packed: set[str], expected: set[str]) -> list[str]:
    """Return a line for each file that is packed and should not be, or the other way round."""
    missing = [f"{what} lacks {name}" for name in sorted(expected - packed)]
    return missing + [
        f"{what} has {name}, which git does not track" for name in sorted(packed - expected)
    ]


def check_metadata(what: str, raw: bytes) -> list[str]:
    """Return what is wrong with the name, the version and the license of a package."""
    metadata: Message = message_from_bytes(raw)
    expected = {
        "Name": "knet-trio",
        "Version": __version__,
        "License-Expression": "MIT OR Apache-2.0",
    }
    return [
        f"{what}: {key} is {metadata[key]!r}, not {value!r}"
        for key, value in expected.items()
        if metadata[key] != value
    ]


def check_wheel(dist: Path) -> list[str]:
    """Return what is wrong with the wheel: the package, the manual pages, the licenses."""
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        packed = set(wheel.namelist())
        metadata = wheel.read(f"{NAME}.dist-info/METADATA")
    manual = {
        f"{NAME}.data/data/share/man/man1/{Path(page).name}" for page in list_tracked("docs/man")
    }
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")}
    about.add(f"{NAME}.dist-info/entry_points.txt")
    about |= {f"{NAME}.dist-info/licenses/{name}" for name in LICENSES}
    package = list_tracked("knet_trio")
    assert "knet_trio/py.typed" in package
    return [
        *compare("the wheel", packed, package | manual | about),
        *check_metadata("the wheel", metadata),
    ]


def check_sdist(dist: Path) -> list[str]:
    """Return what is wrong with the source package: it has all that git tracks."""
    with tarfile.open(dist / f"{NAME}.tar.gz") as sdist:
        packed = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
        info = sdist.extractfile(f"{NAME}/PKG-INFO")
        assert info is not None
        metadata = info.read()
    return [
        *compare("the sdist", packed, list_tracked() | {"PKG-INFO"}),
        *check_metadata("the sdist", metadata),
    ]


def find_placeholders() -> list[str]:
    """Return a line for each placeholder that a release has to fill."""
    return [
        f"{name}:{number}: a release puts the real address here: {line.strip()}"
        for name in ("pyproject.toml", "SECURITY.md")
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if PLACEHOLDER in line
    ]


def main() -> None:
    """Print what is wrong, and exit with 1 if there is anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("dist", type=Path, help="where the packages are")
    parser.add_argument("--release", action="store_true", help="refuse placeholders")
    arguments = parser.parse_args()
    wrong = [*check_wheel(arguments.dist), *check_sdist(arguments.dist)]
    if arguments.release:
        wrong += find_placeholders()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"{NAME}: the wheel and the sdist have what they should have")


if __name__ == "__main__":
    main()
