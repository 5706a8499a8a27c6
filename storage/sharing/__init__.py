"""Changes of a session by its owner and its page while it is open, and the receipt at its end."""
