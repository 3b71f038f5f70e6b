"""``knet-trio run``: this host of a cluster file, as a service.

From the bottom up::

    log         what is logged, to standard error or to the journal
    supervisor  what systemd is told
    links_up    how many links are up, for the line that systemd shows
    parts       what runs beside the handle: channels, tap, control, metrics
    swapping    parts that are started, stopped and put in each other's place
    host_run    the handle, its parts, and the signals
    command     the command
"""
