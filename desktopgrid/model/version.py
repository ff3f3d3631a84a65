"""Which version this is: the same word in worker, client and server (setup.cfg has it too)."""

VERSION = "0.1.0"
