"""Chaos: real processes, faults from a seed, and a verdict. `make chaos` runs it."""
