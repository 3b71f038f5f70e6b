"""The tests of knet_trio.transport."""
