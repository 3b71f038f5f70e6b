"""The ``knet-trio`` command. It needs click and rich, which the extra ``cli`` installs."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Final

MISSING_EXTRA: Final = 2
INTERRUPTED: Final = 130


def main() -> None:
    """Run the command with the arguments of the process, and exit with its status."""
    # Imported modules stay: searching them for garbage takes time. The group turns it on again.
    gc.disable()
    try:
        # Imported here and not above, to name what is missing where the extra is not installed.
        # Commands that need rich are imported later.
        import_module("rich")
        from knet_trio.cli.commands import knet_trio
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(
            f"knet-trio: the command needs {error.name}: pip install 'knet-trio[cli]'",
            file=sys.stderr,
        )
        sys.exit(MISSING_EXTRA)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    from knet_trio.cli.output import escape_what_is_missing, fill_descriptors, status_of

    fill_descriptors()
    escape_what_is_missing()
    status: int | None = None
    try:
        try:
            knet_trio(prog_name="knet-trio")
        finally:
            sys.stdout.flush()
    except* OSError as errors:
        status = status_of(errors)
        if status is None:
            raise
    sys.exit(status)
