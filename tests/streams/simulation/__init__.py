"""Random conversations on a simulated network, checked against what streams promise.

From the bottom up::

    scenario    what is wanted and what goes wrong, as plain data that a seed makes
    data        the bytes of each job, and what names them
    record      what became of each job, as its hosts saw it
    node        a host, life after life, and what it does with streams
    cluster     the hosts, and what is done to them and to the network
    judge       what has to be so
    play        a scenario from its beginning to the verdict
"""
