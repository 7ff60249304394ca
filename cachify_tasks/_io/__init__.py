"""What touches the world: stores, drivers, and the heart that renews leases."""
