"""``python -m knet_trio`` is the ``knet-trio`` command."""

from __future__ import annotations

from knet_trio.cli import main

main()
