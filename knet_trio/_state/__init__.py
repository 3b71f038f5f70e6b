"""A handle at work, below the objects a user holds.

From the bottom up::

turns           how long a handle works before others have their turn
schedule        deadlines and the task that keeps them
chores          work on many links at once, in turns
counters        what is counted, and the frozen answers made of it
refusals        what the log says of packets and messages that go no further
outbox          what a socket had no room for
context         what all parts of one handle share
link            what every kind of link has
link_address    where a link leads to, and who may speak on it
control_output  the control packets it sends
heartbeat       its pings, and silence noticed
path_mtu        how large its packets can be
explain         why it is as it is, in words
network_link    a link over the network, made of those parts
loopback        the link of this host to itself
host            one host: its links, its data, whether it can be reached
link_index      links by their addresses
data_mtu        the smallest MTU of the links in use
handle          all hosts, and what follows from their state
control         what control packets and the network's complaints do
"""
