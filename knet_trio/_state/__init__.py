"""What is behind a handle, its hosts and their links.

From the bottom up::

    workers         where slow work runs: in a thread, or in simulated time
    turns           how long a handle works before other tasks run
    schedule        deadlines of many things, and the task that keeps them
    chores          work on many links at once, in turns
    counters        what is counted, and the frozen records made of it
    refusals        what the log says of packets and messages that are dropped
    send_socket     sockets that have room or are full
    context         what all parts of one handle share
    channel_queue   what has arrived for a channel and is not taken yet
    send_lane       what waits to be sent to one host
    receive_lane    what one host has sent and waits to be decompressed
    link            what every kind of link has
    link_address    where a link leads to, and who may speak on it
    link_sender     how a link sends, and what the system refused
    control_output  the control packets that a link sends
    heartbeat       the pings of a link, and silence noticed
    path_mtu        the search for the path MTU of a link
    explain         why a link is up or down, in words
    network_link    a link over the network, made of those parts
    loopback        the link of this host to itself
    host            one host: its links, its data, whether it can be reached
    link_index      links by their addresses
    data_mtu        the smallest MTU of the links in use
    handle          all hosts, and what follows from their state
    control         what control packets and errors of the network do
"""
