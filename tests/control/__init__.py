"""The tests of knet_trio.control."""
