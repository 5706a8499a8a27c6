"""What people see: the start page, the upload page, and the static files that both are made of."""

from __future__ import annotations

import logging
from pathlib import Path

from flask import Response, render_template, send_from_directory, url_for

from framework import Routes
from operations import watch
from storage import sessions
from storage.errors import DatabaseUnavailable, InvalidRequest, ServiceError, SessionNotFound
from storage.models import DATABASE_ERRORS
from storage.watch import Seen
from wire import VERSION, complete, page, request_id, service

logger = logging.getLogger("loadbay")
pages = Routes("pages", __name__, template_folder="templates")

STATIC = Path(__file__).with_name("static")
TITLE = "Send your tracks"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'"


def show(template: str, store: str = "", status: int = 200, **names: object) -> Response:
    """A page of ours, whose scripts talk to this service and to `store` (an origin), and to nobody else."""
    html = render_template(f"loadbay/{template}", base=url_for(".start"), version=VERSION, **names)
    response = page(html, "text/html; charset=utf-8", f"{POLICY} {store}".rstrip())
    response.status_code = status
    # Its address may be a credential, and what it says is of this moment.
    response.headers["Cache-Control"] = "no-store"
    return response


@pages.get("/", strict_slashes=False)
def start() -> Response:
    """On a dev box a place to begin; elsewhere no more than what this is."""
    here = service()
    if not here.settings.allow_anonymous:
        return show("closed.html")
    return show("start.html", parts={name: _found(seen) for name, seen in watch().look().items()})


def _found(seen: Seen | None) -> str | None:
    """What is wrong with a part of the service, as a sentence."""
    if seen is None:
        return "It does not answer in time."
    return seen.error.message if seen.error else None


@pages.get("/u/<upload_session_id>")
def upload(upload_session_id: str) -> Response:
    """The page for whoever has the files: its address is all that they need."""
    here = service()
    name = (sessions.read(here, upload_session_id)["metadata"] or {}).get("batch_name")
    title = name[:200] if isinstance(name, str) and name.strip() else TITLE
    return show("upload.html", here.presigner.origin, title=title, upload_session_id=upload_session_id)


@pages.errorhandler(ServiceError)
def sorry(error: ServiceError) -> Response:
    """A failure as a page: whoever follows a link is no program."""
    unknown = isinstance(error, (SessionNotFound, InvalidRequest))
    response = show("sorry.html", status=404 if unknown else error.status, unknown=unknown)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def no_database(error: Exception) -> Response:
    """The database is away, locked, full or without its tables."""
    logger.error("The database failed for %s: %s", request_id(), error, exc_info=True)
    return sorry(DatabaseUnavailable())


for kind in DATABASE_ERRORS:
    pages.register_error_handler(kind, no_database)


@pages.get("/static/<path:file_name>")
def static(file_name: str) -> Response:
    """A script, style or picture of the pages. Any site may load the component from here."""
    response = send_from_directory(STATIC, file_name)
    # Modules load each other by name, so that all must be of one version: kept, but asked about each time.
    response.headers["Cache-Control"] = "public, no-cache"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return complete(response)
