"""The grid seen by its users: the Python API and the command `xw`."""
