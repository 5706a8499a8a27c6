"""How fast the service is, as a share of what Flask itself can do on the same machine: `python -m bench`."""
