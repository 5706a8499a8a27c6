"""The browser, the service and what stands behind it, as a person at the upload page meets them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, sync_playwright

from conftest import COLLECTION
from dev.store import free_port
from running import Running

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 15_000
"""Milliseconds after which what a page should show and does not is a failure."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one for the process."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: 'apt-get install chromium', or name its program in CHROMIUM.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@dataclass
class Service:
    """A service that runs, as a server, at `base`."""

    base: str

    def open_session(self, **words: Any) -> str:
        """Open a session; returns its id."""
        body = {"collection_id": COLLECTION, **words}
        answer = requests.post(f"{self.base}/v1/upload_session", json=body, timeout=10).json()
        return str(answer["upload_session_id"])

    def tracks(self, session_id: str) -> list[dict[str, Any]]:
        """The session's tracks, in the order in which they were registered."""
        answer = requests.get(f"{self.base}/v1/upload/{session_id}/track?limit=200", timeout=10).json()
        return list(answer["tracks"])


@pytest.fixture
def serve(settings: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Run the service with these settings beside the usual ones."""
    with ExitStack() as stack:

        def start(**other: str) -> Service:
            port = free_port()
            command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
            service = Running(*command, env={**settings, **other}, log=tmp_path / f"service-{port}.log")
            stack.enter_context(service).wait_for_http(f"http://127.0.0.1:{port}/docs")
            return Service(f"http://127.0.0.1:{port}")

        yield start


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor, with a browser profile of his own, in which no script of ours may fail or be refused."""
    visitor = browser.new_context(locale="en-GB", viewport={"width": 1100, "height": 900})
    visitor.set_default_timeout(PATIENCE)
    faults: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "unsafe header" in message.text:
            faults.append(message.text)

    visitor.on("console", listen)
    visitor.on("weberror", lambda error: faults.append(str(error.error)))
    yield visitor
    visitor.close()
    assert faults == []


class Uploader:
    """The component on a page, and what a person does with it."""

    def __init__(self, page: Page):
        self.page = page
        self.status = page.locator("loadbay-uploader").get_by_role("status")
        self.batch = page.get_by_role("region", name="All files")

    def choose(self, *files: Any) -> None:
        """Choose files: paths, or names and bodies."""
        self.page.locator("loadbay-uploader input[type=file]").first.set_input_files(list(files))

    def row(self, name: str) -> Locator:
        """The row of a file."""
        return self.page.get_by_role("list", name="Files").get_by_role("listitem").filter(has_text=name)

    def press(self, name: str, **how: Any) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, **how).click()

    def upload(self) -> None:
        """Press the button that begins."""
        self.page.get_by_role("button", name="Upload ").first.click()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page of the visitor's."""
    return context.new_page()


@pytest.fixture
def visit(page: Page) -> Callable[..., Uploader]:
    """Go to the upload page of a session."""

    def go(service: Service, session_id: str, **attributes: str) -> Uploader:
        page.goto(f"{service.base}/u/{session_id}")
        page.get_by_text("Open until").wait_for()
        for name, value in {"retry-pause": "50", **attributes}.items():
            page.locator("loadbay-uploader").evaluate(
                "(e, [n, v]) => e.setAttribute(n, v)", [name.replace("_", "-"), value]
            )
        return Uploader(page)

    return go
