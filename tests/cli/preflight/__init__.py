"""``knet-trio preflight``, on hosts in namespaces."""
