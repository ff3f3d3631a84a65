"""The desktop grid as a batch system of ARC's computing element, A-REX (docs/operating.md)."""
