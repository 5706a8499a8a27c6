"""Fixtures of the browser tests: Chromium, a service that it visits, and the page."""

from __future__ import annotations

import json
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
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from browser.helpers import Network, Uploader
from dev.store import free_port
from support.api import COLLECTION
from support.processes import Processes, RunningProcess
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TIMEOUT_MS = 45_000
"""Time limit for each step and each expectation."""
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one instance per process."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: run 'apt-get install chromium' or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Service:
    """A running service at the URL `base`."""

    base: str
    database: Path

    def open_session(self, **payload: Any) -> str:
        """Open a session and return its id."""
        body = {"collection_id": COLLECTION, **payload}
        response = requests.post(f"{self.base}/v1/upload_session", json=body, timeout=10).json()
        return str(response["upload_session_id"])

    def tracks(self, session_id: str) -> list[dict[str, Any]]:
        """List the session's tracks in the order of their registration."""
        response = requests.get(f"{self.base}/v1/upload/{session_id}/track?limit=200", timeout=10).json()
        return list(response["tracks"])

    def parts(self, session_id: str, track_id: str) -> set[int]:
        """Return the numbers of the parts that storage has."""
        response = requests.get(f"{self.base}/v1/upload/{session_id}/track/{track_id}/parts", timeout=10).json()
        return {part["part_number"] for part in response["parts"]}

    def change_page(self, session_id: str, **page: Any) -> None:
        """Change the session's page behind the back of whoever has it open."""
        with closing(sqlite3.connect(self.database)) as database, database:
            values = (json.dumps(page), session_id)
            database.execute("UPDATE loadbay_upload_session SET page = ? WHERE id = ?", values)

    def expire(self, session_id: str) -> None:
        """Expire the session now; the API allows no lifetime below one minute."""
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute(
                "UPDATE loadbay_upload_session SET expires_at = created_at - 1 WHERE id = ?", (session_id,)
            )


@contextmanager
def run_service(
    processes: Processes, settings: Mapping[str, Any], folder: Path
) -> Iterator[tuple[Service, RunningProcess]]:
    """Run a service with its own database in `folder`."""
    port, database = free_port(), folder / "browser.db"
    command = (sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port))
    env = {**settings, "DATABASE_URL": f"sqlite:///{database}"}
    with processes.start(*command, env=env, log=folder / f"service-{port}.log") as process:
        process.wait_for_http(f"http://127.0.0.1:{port}/docs")
        yield Service(f"http://127.0.0.1:{port}", database), process


@pytest.fixture(scope="session")
def running_service(
    store_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, RunningProcess]]:
    """A service on the run's store, shared by the tests that need no other settings."""
    settings = {
        "S3_ENDPOINT": store_endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "ALLOW_ANONYMOUS": "1", "CREATE_MISSING": "1",
    }  # fmt: skip
    with run_service(Processes(), settings, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def service(running_service: tuple[Service, RunningProcess], processes: Processes) -> Iterator[Service]:
    """The shared service; its output is searched for the secrets of each test."""
    yield running_service[0]
    processes.outputs.append(running_service[1].output())


@pytest.fixture
def serve(settings: dict[str, Any], tmp_path: Path, processes: Processes) -> Iterator[Callable[..., Service]]:
    """Start a service with these settings in addition to the usual ones."""
    with ExitStack() as stack:
        yield lambda **other: stack.enter_context(run_service(processes, {**settings, **other}, tmp_path))[0]


@pytest.fixture
def context_options() -> dict[str, Any]:
    """Options of the browser context; a test may override them."""
    return {"viewport": {"width": 1100, "height": 900}}


@pytest.fixture
def context(browser: Browser, context_options: dict[str, Any]) -> Iterator[BrowserContext]:
    """A browser profile. Fails the test on script errors and on violations of a page's Content-Security-Policy."""
    profile = browser.new_context(**{"locale": "en-GB", **context_options})
    profile.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "unsafe header" in message.text:
            errors.append(message.text)

    profile.on("console", listen)
    profile.on("weberror", lambda error: errors.append(str(error.error)))
    yield profile
    profile.close()
    assert errors == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page in the browser profile."""
    return context.new_page()


@pytest.fixture
def visit(page: Page) -> Callable[..., Uploader]:
    """Open the upload page of a session and set attributes of its component."""

    def go(service: Service, session_id: str, **attributes: str) -> Uploader:
        page.goto(f"{service.base}/u/{session_id}")
        page.get_by_text("Open until").wait_for()
        component = page.locator("loadbay-uploader")
        for name, value in {"retry_delay": "50", **attributes}.items():
            component.evaluate("(e, [name, value]) => e.setAttribute(name, value)", [name.replace("_", "-"), value])
        return Uploader(page)

    return go


@pytest.fixture
def network(page: Page) -> Network:
    """The page's network connection."""
    return Network(page)


@pytest.fixture
def slow_network(network: Network) -> Network:
    """The page's network connection, limited to 400 kB/s, so that uploads can be observed."""
    network.limit(400_000)
    return network
