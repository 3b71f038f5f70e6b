"""A handle at work, below the objects a user holds.

From the bottom up::

counters    what is counted, and the frozen answers made of it
schedule    deadlines and the task that keeps them
outbox      what a socket had no room for
context     what all parts of one handle share
path        one link: heartbeats, path MTU, its address
loopback    the link of this host to itself
peer        one host: its links, its data, whether it can be reached
node        this host: its peers and what follows from their state
control     what control packets and the network's complaints do
explain     why a link is as it is, in words
"""
