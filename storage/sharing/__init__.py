"""What the owner of a session and its page do with it: changes while it is open, and the receipt at its end."""
