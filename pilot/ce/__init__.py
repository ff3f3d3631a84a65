"""Computing elements: the doors that accept pilots, one file a kind."""
