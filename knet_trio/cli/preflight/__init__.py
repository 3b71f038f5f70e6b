"""``knet-trio preflight``: a test of every pair of hosts on every link, before anything runs.

``command`` is the command, ``host`` the course of one host. ``exchange`` brings the reports of the
hosts to all of them, and ``verdict`` makes findings of them, the same on each host.
"""
