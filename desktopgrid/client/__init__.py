"""The grid seen by its users: the Python API (session.py, futures.py) and the command `xw`
(cli.py).
"""
