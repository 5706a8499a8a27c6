"""Outgoing HTTP: fast exchanges, which addresses may be called, through which proxy, as a part of which trace."""
