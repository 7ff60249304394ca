"""Connections to Redis: clients, and the ways to send commands."""
