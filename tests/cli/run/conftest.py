"""What the tests of taps have too."""

from __future__ import annotations

from tests.tap.conftest import taps

__all__ = ["taps"]
