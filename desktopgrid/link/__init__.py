"""A connection to a server, used by client and node alike. Standard library only."""
