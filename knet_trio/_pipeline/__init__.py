"""The ways of a message, out and in.

``transmitter`` is the way out and ``receiver`` the way in. The text at the top of each numbers the
steps and names their modules. ``stage`` is the base class of the steps that have a task. Both ways
call the user's filter through ``ask_filter``.
"""
