"""What people see: the start page, the upload page, and the static files that both are made of."""

from __future__ import annotations

import logging
from pathlib import Path

from flask import Response, render_template, send_from_directory, url_for

from storage.db.errors import DATABASE_ERRORS
from storage.errors import DatabaseUnavailable, InvalidRequest, ServiceError, SessionNotFound
from storage.probes import ProbeResult
from storage.uploads import sessions
from web.blueprint import StrictBlueprint
from web.health import current_probes
from web.requests import current_service, request_id
from web.responses import VERSION, add_default_headers, html_response

logger = logging.getLogger("loadbay")
pages = StrictBlueprint("pages", __name__)

STATIC = Path(__file__).resolve().parent.parent / "static"
DEFAULT_TITLE = "Send your tracks"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'"
)


def render_page(template: str, store: str = "", status: int = 200, **names: object) -> Response:
    """A page of ours, whose scripts talk to this service and to `store` (an origin), and to nobody else."""
    html = render_template(f"loadbay/{template}", base=url_for(".index"), version=VERSION, **names)
    response = html_response(html, "text/html; charset=utf-8", f"{CONTENT_SECURITY_POLICY} {store}".rstrip())
    response.status_code = status
    # Its address may be a credential, and what it says is of this moment.
    response.headers["Cache-Control"] = "no-store"
    return response


@pages.get("/", strict_slashes=False)
def index() -> Response:
    """On a dev box a place to begin; elsewhere no more than what this is."""
    service = current_service()
    if not service.settings.allow_anonymous:
        return render_page("closed.html")
    return render_page(
        "start.html", parts={name: _status_message(seen) for name, seen in current_probes().check().items()}
    )


def _status_message(seen: ProbeResult[None] | None) -> str | None:
    """What is wrong with a part of the service, as a sentence."""
    if seen is None:
        return "It does not answer in time."
    return seen.error.message if seen.error else None


@pages.get("/u/<upload_session_id>")
def upload(upload_session_id: str) -> Response:
    """The page for whoever has the files: its address is all that they need."""
    service = current_service()
    name = (sessions.read(service, upload_session_id)["metadata"] or {}).get("batch_name")
    title = name[:200] if isinstance(name, str) and name.strip() else DEFAULT_TITLE
    return render_page("upload.html", service.presigner.origin, title=title, upload_session_id=upload_session_id)


@pages.errorhandler(ServiceError)
def render_error_page(error: ServiceError) -> Response:
    """A failure as a page: whoever follows a link is no program."""
    unknown = isinstance(error, (SessionNotFound, InvalidRequest))
    response = render_page("sorry.html", status=404 if unknown else error.status, unknown=unknown)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def no_database(error: Exception) -> Response:
    """The database is away, locked, full or without its tables."""
    logger.error("The database failed for %s: %s", request_id(), error, exc_info=True)
    return render_error_page(DatabaseUnavailable())


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
    return add_default_headers(response)
