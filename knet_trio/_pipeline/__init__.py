"""The way of a message, as typed stages over memory channels.

``stage`` is what they have in common, ``tx`` the way out and ``rx`` the way in, each in the order
in which a message passes through; both ask the user's filter by ``filtering``.
"""
