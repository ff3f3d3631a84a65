"""The desktop grid: a server that keeps works, the protocol to it, and its clients."""
