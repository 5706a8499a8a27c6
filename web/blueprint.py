"""Flask for this service: blueprints whose paths are matched literally, and no cookies."""

from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, Flask, Request
from flask.sansio.app import App
from flask.sessions import NullSession, SessionInterface

logger = logging.getLogger("loadbay")


class StrictBlueprint(Blueprint):
    """A blueprint whose paths are matched literally in any application.

    Where an application merges slashes, it redirects to the merged path with a page that contains the requested path.
    """

    def add_url_rule(self, *args: Any, **options: Any) -> None:
        """Add a rule as Blueprint does, without merging slashes."""
        super().add_url_rule(*args, **options, merge_slashes=False)

    def register(self, app: App, options: dict[str, Any]) -> None:
        """Register as Blueprint does, and log which routes are not reached, as the application has the same."""
        routes = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods or ()}
        super().register(app, options)
        name = f"{options.get('name_prefix', '')}.{options.get('name', self.name)}".lstrip(".")
        for rule in app.url_map.iter_rules():
            methods = {method for method in rule.methods or () if (rule.rule, method) in routes} - {"HEAD", "OPTIONS"}
            if methods and rule.endpoint.rpartition(".")[0] == name:
                logger.warning("%s of Loadbay is not reached: the application has this route, too.", rule.rule)


class NullSessionInterface(SessionInterface):
    """No cookie sessions: no response sets a cookie, so none is read."""

    null_session = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        """Return the empty session that all requests share."""
        return self.null_session
