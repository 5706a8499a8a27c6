"""What is kept, and the rules for keeping it. Knows no Flask and no HTTP request."""
