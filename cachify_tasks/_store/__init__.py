"""The store: its interface, Redis, memory, and the scripts."""
