"""Development tools: a local store and PostgreSQL, `make run`, screenshots and the documentation."""
