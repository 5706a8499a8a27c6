"""Benchmarks: `python -m bench`, `bench.growing`, `bench.peers` and `bench.soak`. See bench/README.md."""
