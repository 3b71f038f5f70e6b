"""``knet-trio decode``: what the packets of a capture say, and what became of them.

In the order in which bytes go through: ``capture`` cuts a file into frames (``pcap`` and ``pcapng``
are its two formats), or ``interface`` gives those of a network interface; ``network`` finds the UDP
datagram in a frame; ``opening`` finds the knet packets in a datagram, with the keys of ``keys``;
``decoder`` tells which flows are knet and keeps a ``link_record`` for each link, whose parts are
``numbers``, ``round_trips`` and ``seal_guess``; ``text`` and ``json_lines`` are the two ways to
print it.
"""
