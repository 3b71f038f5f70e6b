"""``knet-trio bench --serve`` and ``knet-trio bench HOST``: the bench between two machines.

::

    place.py     which hosts, links and channels: from addresses, or from a cluster file
    protocol.py  what the two sides say to each other, as requests on the service channel
    side.py      what a side does in a case, the same at both of them
    server.py    serves one client at a time
    client.py    drives both sides
    cases.py     what is measured
    command.py   the two commands

Cases, figures and reports are those of the bench on one machine.
"""
