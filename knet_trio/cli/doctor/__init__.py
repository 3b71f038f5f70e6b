"""``knet-trio doctor``: what is wrong with a running host, and what to do about it.

``watching`` looks into the program for some seconds, and makes an ``Evidence`` of that. What
follows from it is found without any input or output: ``judging`` puts together what
``link_findings`` finds of each link, with ``mismatches``, ``silence`` and ``path``, and
``program_findings`` of the program and this machine.
"""
