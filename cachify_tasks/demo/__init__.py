"""A run on real input: index the standard library with Celery, at most two tasks at once per package."""
