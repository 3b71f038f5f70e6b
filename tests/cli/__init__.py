"""The command, the relay and the account of its demo."""
