"""What a store can do: measured by real requests (probing.py), and kept in the database (stores.py)."""
