"""How the service stands beside others that do a like thing, in one run on one machine: `python -m bench.peers`."""
