"""What to do about our pilots: a plan that decides, a daemon that carries it out."""
