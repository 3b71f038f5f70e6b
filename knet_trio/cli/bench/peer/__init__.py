"""The peers, programs of the processes that are measured: ``python -m knet_trio.cli.bench.peer``.

A peer reads commands from stdin, one a line, ``7 source size=64 window=2048``, and answers each
with one JSON object in a line, ``{"id": 7, "sent": 1000}``, or ``{"id": 7, "error": "..."}``. The
libknet peer in ``libknet_peer`` understands the same commands. The end of stdin ends the peer.

Times are those of ``time.monotonic``, which all processes of a machine share.
"""
