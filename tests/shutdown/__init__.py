"""How handles end: in every state, in every way, and what is left of them: nothing."""
