"""Keeping the grid: decisions in memory, a journal behind, listeners in front."""
