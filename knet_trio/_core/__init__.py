"""The protocol without I/O.

Nothing here knows of trio, sockets, clocks or randomness: callers pass ``now`` (seconds on any
steady clock) and the bytes that arrived, and are told what to send, what happened, and when to call
again. Modules import nothing of the package but ``errors`` and each other:

    onwire      packets in and out of bytes
    sizes       how much fits into a packet
    window      which numbers were delivered
    defrag      fragments to messages
    inbound     window and defrag of one sending host, and when to forget them
    freshness   copies of control packets that somebody recorded
    liveness    pings and pongs to up and down
    pmtud       the search for the path MTU
    policy      which links carry a message
    acl         which addresses may speak on a link
    timers      deadlines of many things
    rate_limit  log messages that are repeated again and again
"""
