"""Pilot jobs: the worker, the doors it goes in by, and the factory that submits it."""
