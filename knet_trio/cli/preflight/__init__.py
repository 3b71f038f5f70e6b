"""``knet-trio preflight``: tries every pair of hosts on every link before anything runs.

``command`` is the command, ``host`` what one host does. ``exchange`` brings what the hosts have
found to all of them, and ``verdict`` makes findings of it, the same on each.
"""
