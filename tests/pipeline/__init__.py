"""The tests of knet_trio.pipeline."""
