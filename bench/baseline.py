"""The baseline: a Flask view that returns a constant."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def constant() -> str:
    """Return a constant, without reading or storing anything."""
    return '{"ok":true}'
