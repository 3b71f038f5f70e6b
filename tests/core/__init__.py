"""The protocol core: what holds of each of its modules."""
