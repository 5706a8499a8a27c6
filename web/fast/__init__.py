"""Performance tricks of the hot path, a module each, with what they save (see bench/README.md)."""
