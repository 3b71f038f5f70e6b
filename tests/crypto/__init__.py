"""The envelope and the two configurations."""
