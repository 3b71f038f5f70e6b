"""The tests of ``knet-trio run``."""
