"""A run on real input: index the standard library, at most two tasks at once per package. `python -m` runs it."""
