"""Energy: shared out by time, balanced over the grid, checked for overlaps and theft."""
