"""The run time of calls: drivers of flows, slot handles, the lease renewer, events."""
