"""Measurement of the store by real requests (probing.py), and its outcome in the database (stores.py)."""
