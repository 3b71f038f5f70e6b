"""``knet-trio bench --serve`` and ``knet-trio bench HOST``: the bench between two machines.

::

    place.py     the hosts, links and channels, from addresses or from a cluster file
    protocol.py  the messages of the two sides, as requests on the service channel
    side.py      the commands of a side in a case, the same on both
    server.py    serves one client at a time
    client.py    drives both sides
    cases.py     the cases to measure
    command.py   the two commands

Cases, figures and reports are those of the bench on one machine.
"""
