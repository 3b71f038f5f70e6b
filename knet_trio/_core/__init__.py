"""The protocol without I/O.

Nothing here knows of trio, sockets, clocks or randomness. Callers pass ``now`` (seconds on any
steady clock) and the bytes that arrived; the answer is what to send, what happened, and when to
call again. Modules import nothing of the package but ``errors`` and each other:

    onwire      packets to bytes and back
    sizes       how much fits into a packet
    window      which sequence numbers were delivered
    defrag      fragments to messages
    inbound     window and defrag of one sending host, and when to forget them
    freshness   copies of recorded control packets
    liveness    the heartbeat of a link: from pings and pongs to up and down
    pmtud       the search for the path MTU
    policy      which links carry a message
    acl         which addresses may speak on a link
    timers      one deadline for each of many keys
    rate_limit  log messages that repeat
"""
