"""``knet-trio bench``: knet_trio measured beside libknet and others, on one machine.

::

    cases.py     what is measured, as data
    runner.py    warm-up, then rounds in which every contender has its turn
    kinds/       one module for each kind of measurement
    process.py   a contender's process, as an object
    network.py   loopback, or two network namespaces (namespaces.py)
    peer/        what runs in those processes;  libknet_peer/  the same in C, with libknet
    yardstick.py what the machine takes for a few small things, beside every case
    result.py    medians, spreads, ratios
    report.py    progress, tables;  markdown.py  tables for a document;  plot.py  the picture

Every run has fresh processes. What is counted is what the receiving application got.
"""
