"""What the service is compared with: a Flask view that returns a constant."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def constant() -> str:
    """Nothing is read, nothing is kept."""
    return '{"ok":true}'
