"""``knet-trio doctor``: finds faults of a running host, and says what to do about them.

``watching`` observes the program for some seconds and returns an ``Evidence``. The findings are
derived from it without input or output: ``judging`` collects those about each link, from
``link_findings`` with ``mismatches``, ``silence`` and ``path``, and those about the program and
this machine, from ``program_findings``.
"""
