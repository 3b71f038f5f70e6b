"""Captures: their formats, what is in them, and what is said of it."""
