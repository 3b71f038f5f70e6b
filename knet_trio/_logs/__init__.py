"""The log of a handle.

names       subsystems and levels, by libknet's names and numbers
descriptor  libknet's records, for the reader of ``log_fd``
log         what is logged, to ``logging`` and to ``log_fd``
settings    what is logged about changes of settings
"""
