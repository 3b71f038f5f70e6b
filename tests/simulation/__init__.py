"""Random clusters on a simulated network, checked against what is promised.

From the bottom up::

    scenario    what happens, as plain data that a seed makes
    messages    what is sent and received, each message with a name in it
    cluster     the hosts, their lives, and what is done to them and to the network
    witness     what the network saw of each message
    numbers, confirmations    what a host can know by what came to it
    model       what has to be so, and what was
    play        a scenario from its beginning to the verdict
    shrink      less of a scenario that fails
"""
