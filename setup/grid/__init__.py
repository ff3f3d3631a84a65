"""A grid on this machine: computing elements that we did not write, in a box of their own."""
