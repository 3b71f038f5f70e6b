"""Three hosts on a network that loses packets, for hours: see docs/soak.md.

From the bottom up::

    messages   what is sent: it says itself what it is
    wires      the namespaces, their losses and cuts, and what iptables counted
    tap        what arrived at a host's interfaces, before its sockets
    ledger     what arrived whole, and what was delivered
    node       a host, in a process of its own
    nodes      those processes, as the driver sees them
    driver     what happens in a run
    judge      what must hold at its end
"""
