"""A soak: whole uploads by many clients for any time, while one part after another fails."""
