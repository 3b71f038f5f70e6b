"""Interoperability: the C library, libknet, as the other node."""
