"""The rules: what is stored, where, and under which conditions. Free of Flask and of HTTP requests."""
