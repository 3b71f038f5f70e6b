"""What a handle says of itself while it runs.

names       subsystems and levels, by libknet's names and numbers
descriptor  libknet's records for whoever reads ``log_fd``
log         what is told, and to whom
"""
