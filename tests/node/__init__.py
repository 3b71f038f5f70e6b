"""The tests of knet_trio.node."""
