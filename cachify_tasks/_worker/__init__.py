"""What a worker does with its deliveries, whatever its framework; an adapter brings a `WorkerPort` (see `port`)."""
