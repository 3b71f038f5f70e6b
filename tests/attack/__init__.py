"""What attackers do to a handle, and what becomes of a healthy link meanwhile: nothing."""
