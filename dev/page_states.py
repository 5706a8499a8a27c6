"""`python -m dev.page_states FOLDER`: each state of the upload page, in three languages and several widths, as PNGs.

Meant to be looked at after a change of the page; see dev/screenshots.py for the pictures of the documentation.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from dev.screenshots import ALBUM, FAST, FLAGS, SLOW, make_files, png, service

LANGUAGES = ("en", "de", "ar")
WIDTHS = (320, 390, 640, 1280, 1440)
"""In CSS pixels; 640 is also a window of 1280 pixels at 200% zoom."""
SKIPPED = ("Lyrics and a very long name of a file that is no audio at all.pdf", "Playlist.m3u8", "notes.txt")
BRAND = {
    "title": ALBUM, "sender": "Tidewater Records", "accent_color": "#7fd4c1",
    "greeting": "Please send the masters as WAV, and the cover as a square PNG.\nThank you!",
    "terms_url": "https://example.com/terms", "privacy_url": "https://example.com/privacy",
    "help_url": "https://example.com/help",
}  # fmt: skip


def open_session(base: str, **payload: Any) -> str:
    """Open a session and return its id."""
    body = {"collection_id": "123e4567-e89b-12d3-a456-426614174000", **payload}
    request = Request(f"{base}/v1/upload_session", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        return str(json.load(response)["upload_session_id"])


class States:
    """One page in one language and width, brought into its states."""

    def __init__(self, page: Page, base: str, folder: Path, prefix: str, database: Path):
        self.page, self.base, self.folder, self.prefix, self.database = page, base, folder, prefix, database
        self.devtools: CDPSession = page.context.new_cdp_session(page)
        self.devtools.send("Network.enable")

    def take(self, state: str) -> None:
        """Take a picture of the whole page."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(150)
        self.page.screenshot(path=self.folder / f"{state}-{self.prefix}.png", full_page=True)

    def visit(self, session_id: str) -> None:
        """Open the page of a session, and wait until it is shown."""
        self.page.goto(f"{self.base}/u/{session_id}")
        self.page.locator("loadbay-uploader :is(.choose-files, .notice):visible").first.wait_for()
        self.page.wait_for_timeout(400)

    def choose(self, files: list[Path]) -> None:
        """Choose files."""
        self.page.locator("loadbay-uploader input[type=file]").first.set_input_files(files)
        self.page.locator("loadbay-uploader li.row").first.wait_for()

    def press(self, name: str) -> None:
        """Press a button of the summary."""
        self.page.locator("loadbay-uploader .summary button:visible").nth(int(name)).click()

    def wait_for_phase(self, phase: str) -> None:
        """Wait until the summary is in this phase."""
        self.page.locator(f'loadbay-uploader .summary[data-phase="{phase}"]').wait_for(timeout=120_000)

    def expire(self, session_id: str, seconds: int) -> None:
        """Let the session expire in this many seconds from now."""
        with closing(sqlite3.connect(self.database)) as database, database:
            (created,) = database.execute(
                "SELECT created_at FROM loadbay_upload_session WHERE id = ?", (session_id,)
            ).fetchone()
            # Seconds, or a thousandth or a millionth of them.
            unit = next(unit for unit in (1, 1000, 1_000_000) if created < time.time() * unit * 100)
            end = int((time.time() + seconds) * unit)
            times = (end - 3600 * unit, end, session_id)
            database.execute("UPDATE loadbay_upload_session SET created_at = ?, expires_at = ? WHERE id = ?", times)


def take_main_path(states: States, files: list[Path]) -> None:
    """Take empty, listed, running, paused, the question before all is cancelled, cancelled, done, and the receipt."""
    session_id = open_session(states.base, metadata={"batch_name": ALBUM})
    states.visit(session_id)
    states.take("01-empty")
    states.choose(files)
    states.take("02-listed")
    states.devtools.send("Network.emulateNetworkConditions", SLOW)
    states.press("0")
    states.page.wait_for_timeout(6000)
    states.take("03-running")
    states.press("0")
    states.take("04-paused")
    states.press("1")
    states.take("05-question")
    states.page.locator("loadbay-uploader dialog button.danger").click()
    states.page.wait_for_timeout(300)
    states.take("06-cancelled")
    states.devtools.send("Network.emulateNetworkConditions", FAST)
    states.press("0")
    states.wait_for_phase("done")
    states.take("07-done")
    states.visit(session_id)
    states.page.locator("loadbay-uploader .received").wait_for()
    states.take("08-again")
    states.page.locator("loadbay-uploader .end button").click()
    states.page.locator("loadbay-uploader dialog button:first-of-type, loadbay-uploader .receipt tr").first.wait_for()
    if (question := states.page.locator("loadbay-uploader dialog button").last).is_visible():
        question.click()
    states.page.locator("loadbay-uploader .receipt tr").first.wait_for()
    states.take("14-receipt")


def take_faults(states: States, files: list[Path], wrong: list[Path], skipped: list[Path]) -> None:
    """Take failures, a branded page, the end of a session, skipped files, and browsers that cannot run the page."""
    rules = {"audio": {"containers": ["wav"]}, "cover": {"square": True}}
    session_id = open_session(states.base, metadata={"batch_name": ALBUM}, rules=rules)
    states.visit(session_id)
    states.choose([*files[:2], *wrong])
    states.press("0")
    states.wait_for_phase("failed")
    states.take("09-failed")
    session_id = open_session(states.base, page=BRAND)
    states.visit(session_id)
    states.take("10-brand")
    states.expire(session_id, 400)
    states.visit(session_id)
    states.take("11-expiring")
    states.expire(session_id, -90_000)
    states.visit(session_id)
    states.take("12-expired")
    states.page.goto(f"{states.base}/u/123e4567-e89b-12d3-a456-426614174000")
    states.take("13-unknown")
    session_id = open_session(states.base, metadata={"batch_name": ALBUM}, max_tracks=2)
    states.visit(session_id)
    states.choose([*files[:4], *skipped])
    states.page.locator("loadbay-uploader .skipped li").first.wait_for()
    states.take("15-skipped")
    states.page.route("**/*.js", lambda route: route.abort())
    states.page.goto(f"{states.base}/u/{session_id}")
    states.page.get_by_role("heading", level=2).wait_for()
    states.take("16-not-loaded")
    states.page.unroute_all()
    states.page.add_init_script("delete AbortSignal.prototype.throwIfAborted; delete window.ResizeObserver")
    states.page.goto(f"{states.base}/u/{session_id}")
    states.page.locator("loadbay-uploader .notice").wait_for()
    states.take("17-too-old")


@contextmanager
def open_page(browser: Browser, language: str, width: int) -> Iterator[Page]:
    """Open a page in a language and a width; narrow ones are phones, with touch, in the dark."""
    phone = width < 600
    options: dict[str, Any] = {"is_mobile": phone, "has_touch": phone, "color_scheme": "dark" if phone else "light"}
    profile = browser.new_context(
        locale=language, viewport={"width": width, "height": 844}, reduced_motion="reduce", **options
    )
    yield profile.new_page()
    profile.close()


def main(folder: Path) -> int:
    """Take all pictures; return the exit status."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is not installed: run 'apt-get install chromium'.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loadbay-states-") as name, sync_playwright() as playwright:
        files = make_files(Path(name) / ALBUM)
        wrong = [Path(name) / "03 - The Night Pilot.wav", Path(name) / "04 - Lanterns.mp3"]
        for path in wrong:
            path.write_bytes(b"%PDF-1.7\n" + bytes(80_000))
        skipped = [Path(name) / other for other in SKIPPED]
        for path in skipped:
            path.write_bytes(b"%PDF-1.7\n")
        wide = Path(name) / "03 - The Night Pilot.png"
        wide.write_bytes(png(160, lambda x, y: (200, int(200 * x), int(200 * y))))
        with (
            service(Path(name)) as base,
            playwright.chromium.launch(executable_path=chromium, args=FLAGS) as browser,
        ):
            for language in LANGUAGES:
                for width in WIDTHS:
                    with open_page(browser, language, width) as page:
                        states = States(page, base, folder, f"{language}-{width}", Path(name) / "loadbay.db")
                        take_main_path(states, files)
                        take_faults(states, files, wrong, skipped)
                        print(f"{language} {width}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
