"""A soak test: whole uploads by many clients for any time, under injected faults."""
