"""``knet-trio decode``: shows the packets of a capture, and a summary of each link.

In the order of processing: ``capture`` splits a file into frames (in the formats ``pcap`` and
``pcapng``), or ``interface`` captures them from a network interface; ``network`` finds the UDP
datagram in a frame; ``opening`` opens the knet packets in a datagram with the keys of ``keys``;
``decoder`` decides which flows are knet and keeps a ``link_record`` for each link, with
``numbers``, ``round_trips`` and ``seal_guess``; ``text`` and ``json_lines`` format the output.
"""
