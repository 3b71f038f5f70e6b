"""A virtual machine with a Linux kernel that has SCTP and netem, and the tests that need them.

``nox -s machine`` runs the tests in it, ``python -m tests.machine COMMAND`` any command:
docs/machine.md says more.
"""
