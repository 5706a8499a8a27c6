"""Loadbay: upload sessions in front of any S3 store, as an application of its own or within a host's.

    from loadbay import create_app, loadbay

`create_app(config)` returns a WSGI application; `loadbay` is the same as a blueprint for a host's Flask application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app import create_app, loadbay

__all__ = ["create_app", "loadbay"]


def __getattr__(name: str) -> Any:
    """Import the application with the first use of a name: gunicorn's master needs gunicorn_conf.py alone."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import app

    return getattr(app, name)
