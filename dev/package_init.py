"""Loadbay: upload sessions in front of any S3 store, as an application of its own or within a host's.

    from loadbay import create_app, loadbay

`create_app(config)` returns a WSGI application; `loadbay` is the same as a blueprint for a host's Flask application.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app import create_app, loadbay
    from embedding.uploads import Uploads
    from storage.errors import ServiceError
    from storage.settings import SettingsError
    from storage.webhooks import signals

__all__ = ["ServiceError", "SettingsError", "Uploads", "create_app", "loadbay", "signals"]

MODULES = {
    "ServiceError": ".storage.errors",
    "SettingsError": ".storage.settings",
    "Uploads": ".embedding.uploads",
    "create_app": ".app",
    "loadbay": ".app",
}


def __getattr__(name: str) -> Any:
    """Import what is used, and only then: gunicorn's master needs gunicorn_conf.py alone."""
    if name == "signals":
        return import_module(".storage.webhooks.signals", __name__)
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name], __name__), name)
