"""``knet-trio bench``: knet_trio measured beside libknet and others, on one machine.

::

    cases.py     the cases to measure, as data
    runner.py    warm-up, then rounds in which every contender has its turn
    kinds/       one module for each kind of measurement
    process.py   a contender's process, as an object
    network.py   loopback, or two network namespaces (namespaces.py)
    peer/        the program of these processes;  libknet_peer/  the same in C, with libknet
    yardstick.py the machine's times for a few small operations, beside every case
    result.py    medians, spreads, ratios
    report.py    progress, tables;  markdown.py  tables for a document;  plot.py  the picture

Every run has fresh processes. The bench counts the messages that the receiving application got.
"""
