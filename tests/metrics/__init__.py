"""Tests of the package ``knet_trio.metrics``."""
