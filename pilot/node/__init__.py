"""What runs on a worker node, desktop or pilot. Standard library only, Python 3.9."""
