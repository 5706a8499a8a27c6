"""The browser, the service and what stands behind it, as a person at the upload page meets them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from conftest import ACCESS_KEY, BUCKET, COLLECTION, SECRET_KEY
from dev.store import free_port
from support import processes
from support.processes import Running

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 45_000
"""Milliseconds after which what a page should show and does not is a failure."""
expect.set_options(timeout=PATIENCE)


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
    database: Path

    def open_session(self, **payload: Any) -> str:
        """Open a session; returns its id."""
        body = {"collection_id": COLLECTION, **payload}
        answer = requests.post(f"{self.base}/v1/upload_session", json=body, timeout=10).json()
        return str(answer["upload_session_id"])

    def tracks(self, session_id: str) -> list[dict[str, Any]]:
        """The session's tracks, in the order in which they were registered."""
        answer = requests.get(f"{self.base}/v1/upload/{session_id}/track?limit=200", timeout=10).json()
        return list(answer["tracks"])

    def parts(self, session_id: str, track_id: str) -> set[int]:
        """The numbers of the parts that have arrived."""
        answer = requests.get(f"{self.base}/v1/upload/{session_id}/track/{track_id}/parts", timeout=10).json()
        return {part["part_number"] for part in answer["parts"]}

    def expire(self, session_id: str) -> None:
        """Let the session's time run out now: the shortest one lives for a minute."""
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute(
                "UPDATE loadbay_upload_session SET expires_at = created_at - 1 WHERE id = ?", (session_id,)
            )


@contextmanager
def run_service(settings: Mapping[str, Any], folder: Path) -> Iterator[tuple[Service, Running]]:
    """A service with a database of its own in `folder`."""
    port, database = free_port(), folder / "browser.db"
    command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
    env = {**settings, "DATABASE_URL": f"sqlite:///{database}"}
    with Running(*command, env=env, log=folder / f"service-{port}.log") as process:
        process.wait_for_http(f"http://127.0.0.1:{port}/docs")
        yield Service(f"http://127.0.0.1:{port}", database), process


@pytest.fixture(scope="session")
def usual(store_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Running]]:
    """One service on the run's store, for all tests that ask for no other settings."""
    settings = {
        "S3_ENDPOINT": store_endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "ALLOW_ANONYMOUS": "1", "CREATE_MISSING": "1",
    }  # fmt: skip
    with run_service(settings, tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def service(usual: tuple[Service, Running]) -> Iterator[Service]:
    """The usual service; each test looks for its own secrets in what it has written."""
    yield usual[0]
    processes.OUTPUTS.append(usual[1].output())


@pytest.fixture
def serve(settings: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Run a service with these settings beside the usual ones."""
    with ExitStack() as stack:
        yield lambda **other: stack.enter_context(run_service({**settings, **other}, tmp_path))[0]


@pytest.fixture
def look() -> dict[str, Any]:
    """How the visitor's browser looks at pages; a test may ask for another."""
    return {"viewport": {"width": 1100, "height": 900}}


@pytest.fixture
def context(browser: Browser, look: dict[str, Any]) -> Iterator[BrowserContext]:
    """A visitor with a profile of his own. No script may fail, and nothing may be refused by a page's policy."""
    visitor = browser.new_context(locale="en-GB", **look)
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


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page of the visitor's."""
    return context.new_page()


class Uploader:
    """The component on a page, and what a person does with it."""

    def __init__(self, page: Page):
        self.page = page
        self.status = page.locator("loadbay-uploader").get_by_role("status")
        self.batch = page.get_by_role("region", name="All files")
        self.files = page.get_by_role("list", name="Files")

    def choose(self, *files: Any) -> None:
        """Choose files: paths, or names with types and bodies."""
        self.page.locator("loadbay-uploader input[type=file]").first.set_input_files(list(files))

    def row(self, name: str) -> Locator:
        """The row of a file."""
        return self.files.get_by_role("listitem").filter(has_text=name)

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def upload(self, files: int = 1) -> None:
        """Press the button that begins."""
        self.press(f"Upload {files} file{'' if files == 1 else 's'}")


@pytest.fixture
def visit(page: Page) -> Callable[..., Uploader]:
    """Go to the upload page of a session."""

    def go(service: Service, session_id: str, **attributes: str) -> Uploader:
        page.goto(f"{service.base}/u/{session_id}")
        page.get_by_text("Open until").wait_for()
        component = page.locator("loadbay-uploader")
        for name, value in {"retry_pause": "50", **attributes}.items():
            component.evaluate("(e, [name, value]) => e.setAttribute(name, value)", [name.replace("_", "-"), value])
        return Uploader(page)

    return go


class Line:
    """The visitor's line to the world, which can be made slow."""

    def __init__(self, page: Page):
        self.devtools: CDPSession = page.context.new_cdp_session(page)
        self.devtools.send("Network.enable")

    def limit(self, upload: int, offline: bool = False) -> None:
        """Let so many bytes a second go out; -1 for as many as there are. Nothing at all where it is `offline`."""
        conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}
        self.devtools.send("Network.emulateNetworkConditions", conditions)

    def drop(self, *paths: Path) -> None:
        """Drop files or folders from outside the browser onto the middle of the window."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 300, "data": data})


@pytest.fixture
def line(page: Page) -> Line:
    """The page's line."""
    return Line(page)


@pytest.fixture
def slow(line: Line) -> Iterator[Line]:
    """The page's line, slow enough that one can look at what is going on."""
    line.limit(400_000)
    return line
