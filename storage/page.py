"""Upload pages: what a page says and how it looks, from the settings, the organization, the API key and the session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.errors import InvalidRequest
from storage.settings import Settings

Page = dict[str, Any]
"""Members of a page as schemas/page.py loads them."""

NOTHING: Page = {
    "title": None,
    "sender": None,
    "greeting": None,
    "logo_url": None,
    "background_url": None,
    "accent_color": None,
    "terms_url": None,
    "privacy_url": None,
    "help_url": None,
    "language": None,
    "allow_changes": True,
}
IMAGES = ("logo_url", "background_url")


class PageDefaults:
    """The pages of a deployment: what holds for all, and for each organization, unless a session says otherwise."""

    def __init__(self, settings: Settings, pages: Mapping[str, Page] | None = None):
        """Take the pages by organization; '' has what holds for all. Raises InvalidRequest for an unknown image."""
        self.folder = Path(settings.page_folder) if settings.page_folder else None
        self.origins = settings.page_image_origins
        pages = pages or {}
        for page in pages.values():
            self.check(page)
        self._everywhere = {**NOTHING, **pages.get("", {})}
        self._of_organizations = {name: {**self._everywhere, **page} for name, page in pages.items() if name}

    def effective(self, organization_id: str, page: Page | None) -> Page:
        """Return all members of a page: those of the session, or else the defaults. Not to be changed."""
        defaults = self._of_organizations.get(organization_id, self._everywhere)
        return {**defaults, **page} if page else defaults

    def check(self, page: Mapping[str, Any]) -> None:
        """Raise InvalidRequest where an image is neither in the folder nor of an origin that is allowed."""
        for name in IMAGES:
            value = page.get(name)
            if value is not None and not self._is_allowed(value):
                raise InvalidRequest(
                    f"page.{name}: must be an image in PAGE_FOLDER, or of an origin in PAGE_IMAGE_ORIGINS."
                )

    def _is_allowed(self, image: str) -> bool:
        if "://" in image:
            parts = urlsplit(image.lower())
            return f"{parts.scheme}://{parts.netloc}" in self.origins
        return self.folder is not None and (self.folder / image).is_file()


def is_image_file(image: str | None) -> bool:
    """Return True for the name of an image in PAGE_FOLDER."""
    return image is not None and "://" not in image


def uses_folder(page: Page) -> bool:
    """Return True where an image of the page is in PAGE_FOLDER."""
    return is_image_file(page["logo_url"]) or is_image_file(page["background_url"])


def merge(layers: Iterable[Mapping[str, Any] | None]) -> Page | None:
    """Return the members of all layers, those of a later one first; None where there are none.

    >>> merge([{"title": "A", "sender": "B"}, None, {"title": "C", "sender": None}])
    {'title': 'C'}
    """
    members: Page = {}
    for layer in layers:
        members.update(layer or {})
    return {name: value for name, value in members.items() if value is not None} or None
