"""Handles on real networks that fail: see docs/networks.md.

With the environment variable KNET_TRIO_LONG=1 what takes its time in a case takes as long as in
real life: black holes of five seconds, a peer that is stopped for ten.
"""
