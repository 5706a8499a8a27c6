"""Comparison with other upload services, in one run on one machine: `python -m bench.peers`."""
