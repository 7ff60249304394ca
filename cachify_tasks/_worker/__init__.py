"""What a worker does, whatever its framework."""
