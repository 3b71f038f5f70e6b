"""The tests of knet_trio.channel_socket."""
