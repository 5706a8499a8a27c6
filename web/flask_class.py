"""The choice between FastFlask and plain Flask, by Flask's version."""

from __future__ import annotations

import re
from importlib.metadata import version

from flask import Flask

FAST_FLASK_VERSIONS = ((3, 1, 0), (3, 1, 3))
"""The oldest and the newest version of Flask that web/fast_flask.py was tested with."""


def flask_class(flask_version: str | None = None) -> type[Flask]:
    """Return FastFlask for the versions of Flask that it was tested with, and Flask itself for all others.

    FastFlask depends on methods that Flask 3.2 changes. It is imported only when it is used: there, defining such a
    subclass would change flask.Flask itself.
    """
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)$", flask_version or version("flask"))
    first, last = FAST_FLASK_VERSIONS
    if numbers is None or not first <= tuple(map(int, numbers.groups())) <= last:
        return Flask
    from web.fast_flask import FastFlask

    return FastFlask
