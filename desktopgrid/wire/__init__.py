"""The protocol: bytes in, messages out. Pure, standard library only."""
