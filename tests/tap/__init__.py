"""Tap devices, in network namespaces of the tests' own."""
