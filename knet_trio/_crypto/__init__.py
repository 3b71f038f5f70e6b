"""The envelopes around packets (``envelope``, ``aead``), and a handle's two slots (``slots``)."""
