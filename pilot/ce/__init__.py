"""Computing elements: the doors through which pilots get into sites, one module a kind."""
