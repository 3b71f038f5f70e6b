"""The log of a handle.

names       subsystems and levels, by libknet's names and numbers
descriptor  libknet's log records, written to ``log_fd``
log         the log, to ``logging`` and to ``log_fd``
settings    log messages about changes of settings
"""
