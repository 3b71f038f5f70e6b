"""The same failover by knet_trio and by others: see docs/comparison.md.

From the bottom up::

    message    what is sent: its number, and when
    peers      a sender and a receiver of each contender, as blocking programs
    quic       those of QUIC, which are asynchronous
    __main__   two namespaces, a cut, and what came of it
"""
