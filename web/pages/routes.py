"""HTML pages: the start page, the upload page, and the static files they load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache, partial
from mimetypes import guess_type
from pathlib import Path

from flask import Response, render_template, request, send_from_directory, url_for

from storage.db.errors import DATABASE_ERRORS
from storage.errors import InvalidRequest, ServiceError, SessionNotFound
from storage.uploads import sessions
from web.blueprint import StrictBlueprint
from web.errors import log_database_error
from web.health import current_probes, probe_error
from web.pages.folder import image_response, with_image_urls
from web.pages.messages import DEFAULT_LANGUAGE, choose_language, text_direction, translate
from web.requests import current_service
from web.responses import VERSION, add_default_headers, html_response

pages = StrictBlueprint("pages", __name__)

STATIC = Path(__file__).resolve().parents[2] / "static"
BUILT = STATIC / "built"
"""What `make assets` makes of it: minified, compressed, under names with a hash."""

ENCODINGS = {"br": ".br", "gzip": ".gz"}
IMAGE_FOLDER = "/loadbay/page/"
"""Path of the images in PAGE_FOLDER."""
TRANSLATED = {"upload.html", "error.html"}
"""Templates of the pages that people with files see; the others are for developers."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src blob:; connect-src 'self'"
)


class AssetNames(dict[str, str]):
    """Names to load static files by; of a file that is not built, its own."""

    preload: Sequence[str] = ()
    """Built files that the upload page's script is loaded with."""

    def __missing__(self, name: str) -> str:
        return name


@cache
def built_names() -> AssetNames:
    """Return the names of the built files; none in a checkout without them."""
    try:
        manifest = json.loads((BUILT / "manifest.json").read_text())
    except FileNotFoundError:
        return AssetNames()
    names = AssetNames(manifest["names"])
    names.preload = manifest["preload"]
    return names


def asset_names() -> AssetNames:
    """Return the names that pages load static files by: those of static/ where it is being worked on."""
    return built_names() if current_service().settings.built_assets else AssetNames()


def render_page(
    template: str, store_origin: str = "", status: int = 200, image_origins: Sequence[str] = (), **values: object
) -> Response:
    """Return a page whose scripts may connect to this service and to `store_origin` only.

    Its images come from this service, or from `image_origins`.
    """
    language = page_language(values.get("page")) if template in TRANSLATED else DEFAULT_LANGUAGE
    texts = {"t": partial(translate, language), "language": language, "direction": text_direction(language)}
    common = {"base": url_for(".index"), "version": VERSION, "assets": asset_names(), **texts}
    html = render_template(f"loadbay/{template}", **common, **values)
    policy = CONTENT_SECURITY_POLICY.replace("data:", " ".join(("data:", *image_origins)))
    response = html_response(html, "text/html; charset=utf-8", f"{policy} {store_origin}".rstrip())
    response.status_code = status
    # Its URL may be a credential, and its content is of this moment.
    response.headers["Cache-Control"] = "no-store"
    return response


def page_language(page: object) -> str:
    """Return the language of a session's page, or else the first of the browser's that there is."""
    chosen = page.get("language") if isinstance(page, dict) else None
    return choose_language([chosen, *request.accept_languages.values()])


@pages.get("/", strict_slashes=False)
def index() -> Response:
    """Return the start page, where the owner of sessions makes links and sees what has arrived.

    On a developer's machine it also shows the status of the service. With OWNER_PAGE=0 it has the version only.
    """
    service = current_service()
    owner_page = service.settings.owner_page
    if not service.settings.allow_anonymous:
        return render_page("owner.html" if owner_page else "closed.html")
    errors = {name: probe_error(name, probe) for name, probe in current_probes().check().items()}
    messages = {name: error and error.message for name, error in errors.items()}
    return render_page("index.html", errors=messages, command=service.command, owner_page=owner_page)


@pages.get("/u/<upload_session_id>")
def upload(upload_session_id: str) -> Response:
    """Return the upload page of a session. Its URL is all that a person with files needs."""
    service = current_service()
    session = sessions.read(service, upload_session_id)
    page = service.page_defaults.effective(session["organization_id"], session["page"])
    page = with_image_urls(page, url_for(".page_image", file_name=""))
    batch_name = (session["metadata"] or {}).get("batch_name")
    named = batch_name[:200] if isinstance(batch_name, str) and batch_name.strip() else ""
    return render_page(
        "upload.html",
        service.presigner.origin,
        image_origins=service.page_defaults.origins,
        title=page["title"] or named,
        page=page,
        upload_session_id=upload_session_id,
    )


@pages.get(f"{IMAGE_FOLDER}<path:file_name>")
def page_image(file_name: str) -> Response:
    """Return an image of PAGE_FOLDER, which pages of sessions show."""
    return image_response(current_service().page_defaults, file_name)


@pages.errorhandler(ServiceError)
def render_error_page(error: ServiceError) -> Response:
    """Return a failure as a page, because a person has followed the link."""
    unknown = isinstance(error, (SessionNotFound, InvalidRequest))
    response = render_page("error.html", status=404 if unknown else error.status, unknown=unknown)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def render_database_error_page(error: Exception) -> Response:
    """Return a failure of the database as a page."""
    return render_error_page(log_database_error(error))


for kind in DATABASE_ERRORS:
    pages.register_error_handler(kind, render_database_error_page)


@pages.get("/loadbay/<path:file_name>")
def static(file_name: str) -> Response:
    """Return a script, style or image. Any site may load the upload component from here.

    Not below /static/, where a host application has its own.
    """
    names = asset_names()
    is_hashed = file_name in names.values()
    # A site that names the component's URL gets the built one, too.
    is_built = is_hashed or file_name in names
    response = send_built(names[file_name]) if is_built else send_from_directory(STATIC, file_name)
    # Modules import each other by name and must all be of one version, so browsers revalidate each of them.
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_hashed else "public, no-cache"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return add_default_headers(response)


def send_built(name: str) -> Response:
    """Return a built file, compressed in the first way that the client accepts."""
    encoding = next((coding for coding in ENCODINGS if request.accept_encodings[coding]), None)
    suffix = ENCODINGS[encoding] if encoding else ""
    response = send_from_directory(BUILT, name + suffix, mimetype=guess_type(name)[0])
    response.vary.add("Accept-Encoding")
    if encoding:
        response.content_encoding = encoding
    return response
