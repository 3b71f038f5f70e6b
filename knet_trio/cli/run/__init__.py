"""``knet-trio run``: this host of a cluster file, as a service.

From the bottom up::

    log         the log, to standard error or to the journal
    supervisor  notifications to systemd
    links_up    the number of links that are up, for the line that systemd shows
    parts       the parts beside the handle: channels, tap, control, metrics
    swapping    starting, stopping and replacing parts
    host_run    the handle, its parts, and the signals
    command     the command
"""
