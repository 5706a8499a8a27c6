"""The upload page as a user operates it, and files to upload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Locator, Page, expect

from support.sample_files import wav

MIB = 2**20


def file_payload(name: str, body: bytes, content_type: str = "audio/wav") -> dict[str, Any]:
    """Return a file for `Uploader.choose`."""
    return {"name": name, "mimeType": content_type, "buffer": body}


def random_wav(size: int) -> bytes:
    """Return `size` bytes that begin as a WAV file does and are otherwise random."""
    return wav(0.01) + os.urandom(size - len(wav(0.01)))


def expect_received(row: Locator) -> None:
    """Wait until a row says that its file was received."""
    expect(row).to_contain_text("✓ Received")


class Uploader:
    """The component on a page, operated as a user does."""

    def __init__(self, page: Page):
        self.page = page
        self.status = page.locator("loadbay-uploader").get_by_role("status")
        self.summary = page.get_by_role("region", name="All files")
        self.files = page.get_by_role("list", name="Files")

    def choose(self, *files: Any) -> None:
        """Choose files, as paths or as payloads."""
        self.page.locator("loadbay-uploader input[type=file]").first.set_input_files(list(files))

    def row(self, name: str) -> Locator:
        """Return the row of a file."""
        return self.files.get_by_role("listitem").filter(has_text=name)

    def press(self, name: str) -> None:
        """Press the button with this accessible name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def upload(self, files: int = 1) -> None:
        """Press the button that starts the upload of this many files."""
        self.press(f"Upload {files} file{'' if files == 1 else 's'}")


class Network:
    """The page's network connection and its drag-and-drop input, through Chromium's DevTools protocol."""

    def __init__(self, page: Page):
        self.devtools: CDPSession = page.context.new_cdp_session(page)
        self.devtools.send("Network.enable")

    def limit(self, upload: int, offline: bool = False) -> None:
        """Limit the upload speed to this many bytes per second (-1: unlimited), or go offline."""
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}
        self.devtools.send("Network.emulateNetworkConditions", conditions)

    def drop(self, *paths: Path, text: str = "") -> None:
        """Drop files or folders from outside the browser on the middle of the window, and a text with them."""
        items = [{"mimeType": "text/plain", "data": text}] if text else []
        data = {"items": items, "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 300, "data": data})
