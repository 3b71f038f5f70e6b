"""Reliable streams, requests and messages over a channel of a handle."""
