"""The ways of a message, out and in.

``tx`` is the way out and ``receiving`` the way in: the text at the top of each numbers its steps.
``stage`` is what the steps with tasks of their own have in common; both ways ask the user's filter
through ``filtering``.
"""
