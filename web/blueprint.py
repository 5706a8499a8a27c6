"""Flask for this service: blueprints whose paths are matched literally, and no cookies."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Request
from flask.sessions import NullSession, SessionInterface


class StrictBlueprint(Blueprint):
    """A blueprint whose paths are matched literally in any application.

    Where an application merges slashes, it redirects to the merged path with a page that contains the requested path.
    """

    def add_url_rule(self, *args: Any, **options: Any) -> None:
        """Add a rule as Blueprint does, without merging slashes."""
        super().add_url_rule(*args, **options, merge_slashes=False)


class NullSessionInterface(SessionInterface):
    """No cookie sessions: no response sets a cookie, so none is read."""

    null_session = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """Return the empty session that all requests share."""
        return self.null_session
