"""What all tests share: how Hypothesis looks for counterexamples.

A run of the tests is the same every time. ``pytest --hypothesis-profile=search`` looks where no
run has looked before, and keeps what it finds.
"""

from __future__ import annotations

from hypothesis import settings

# No deadline: how fast a machine is has no part in whether the code is right.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None, max_examples=2000)
settings.load_profile("steady")
