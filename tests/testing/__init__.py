"""The tests of knet_trio.testing."""
