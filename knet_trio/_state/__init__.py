"""The state of a handle, its hosts and their links.

From the bottom up::

    workers         threads for slow work, or simulated time
    turns           the time that a handle works before other tasks run
    loop_watch      late rounds of the event loop, and steps of the clock
    schedule        the deadlines of many actions, and the task that keeps them
    chores          work on many links at once, in turns
    counters        the counters, and the frozen records made of them
    refusals        the log lines and the advice about dropped packets and messages
    send_socket     sockets that have room or are full
    context         the shared state of all parts of one handle
    channel_queue   messages that have arrived for a channel and were not received yet
    send_lane       messages that wait to be sent to one host
    receive_lane    messages of one host that wait to be decompressed
    trust           the confirmed lives of a host in slots of model aead
    link            the base class of all kinds of links
    link_address    the destination of a link, and its access list
    link_sender     the sending part of a link
    control_output  the control packets that a link sends
    heartbeat       the pings of a link, and the timeout of their pongs
    path_mtu        the search for the path MTU of a link
    explain_*       the state of handles, hosts, links and drops in words
    diagnose        the same as records for programs
    network_link    a link over the network, made of these parts
    loopback        the link of this host to itself
    host            one host: its links, its data, its reachability
    link_index      links by their addresses
    data_mtu        the smallest MTU of the links in use
    handle          all hosts, and what follows from their state
    destinations    the hosts that a program names by ids, names or objects
    admit           the verdict on a packet by its link and source
    control         the effects of control packets and errors of the network
"""
