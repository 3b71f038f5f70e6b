"""The tests of knet_trio._state."""
