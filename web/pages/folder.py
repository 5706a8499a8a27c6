"""PAGE_FOLDER: the deployer's defaults of upload pages, and the images that pages show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Response, send_from_directory
from marshmallow import ValidationError
from werkzeug.exceptions import NotFound

import schemas
from storage.errors import InvalidRequest
from storage.page import IMAGES, Page, PageDefaults, is_image_file
from storage.settings import Settings, SettingsError
from web.responses import add_default_headers

EVERYWHERE = "page"
MAX_PAGE_FILE_BYTES = 64 * 1024
IMAGE_TYPES = {".svg", ".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif"}


def load_page_defaults(settings: Settings) -> PageDefaults:
    """Return the defaults of pages in PAGE_FOLDER: `page.json` for all, `<organization id>.json` for one.

    Raises SettingsError for a file that is not valid.
    """
    if not settings.page_folder:
        return PageDefaults(settings)
    folder = Path(settings.page_folder)
    if not folder.is_dir():
        raise SettingsError("PAGE_FOLDER must be a folder.")
    pages = {_organization(path): _load(path) for path in sorted(folder.glob("*.json"))}
    try:
        return PageDefaults(settings, pages)
    except InvalidRequest as e:
        raise SettingsError(f"PAGE_FOLDER: {e.message}") from e


def _organization(path: Path) -> str:
    try:
        return "" if path.stem == EVERYWHERE else schemas.canonical_uuid(path.stem)
    except ValueError:
        raise SettingsError(f"PAGE_FOLDER: {path.name} must be page.json or <organization id>.json.") from None


def _load(path: Path) -> Page:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PAGE_FILE_BYTES)
        return schemas.PageSchema().load(schemas.read_json(content))
    except OSError as e:
        raise SettingsError(f"PAGE_FOLDER: {path.name} cannot be read: {e.strerror}.") from e
    except schemas.JSONError as e:
        raise SettingsError(f"PAGE_FOLDER: {path.name} is not valid JSON: {e}.") from e
    except ValidationError as e:
        messages = " ".join(schemas.errors.flatten_messages(e.messages))
        raise SettingsError(f"PAGE_FOLDER: {path.name}: {messages}") from e


def image_response(defaults: PageDefaults, file_name: str) -> Response:
    """Return an image of PAGE_FOLDER; nothing else of that folder is served. Raises NotFound."""
    if defaults.folder is None or Path(file_name).suffix.lower() not in IMAGE_TYPES or "/" in file_name:
        raise NotFound
    response = send_from_directory(defaults.folder.absolute(), file_name)
    response.headers["Cache-Control"] = "public, max-age=300"
    # A drawing that someone opens by itself runs no script of its own.
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return add_default_headers(response)


def with_image_urls(page: Page, folder_url: str) -> dict[str, Any]:
    """Return the page with the URLs of images in PAGE_FOLDER in place of their names."""
    urls = {name: f"{folder_url}{page[name]}" for name in IMAGES if is_image_file(page[name])}
    return {**page, **urls}
