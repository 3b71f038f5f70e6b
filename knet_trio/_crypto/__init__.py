"""The envelope around packets (``envelope``) and the two configurations of a handle (``slots``)."""
