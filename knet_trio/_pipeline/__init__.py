"""The ways of a message, out and in.

``transmitter`` is the way out and ``receiver`` the way in: the text at the top of each numbers its
steps, and says which modules they are in. ``stage`` is what the steps with tasks of their own have
in common; both ways ask the user's filter through ``ask_filter``.
"""
