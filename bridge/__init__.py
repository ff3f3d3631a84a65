"""The daemon between grids: demand goes out as pilots, foreign jobs come in as works."""
