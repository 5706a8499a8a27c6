"""Verification: its costs, and the rate of a worker that notices uploads."""
