"""`make screenshots`: the upload page empty, listed, running, done and failed, light and dark, as PNGs in docs/images/.

Runs its own store and service, and Chromium (set CHROMIUM to its path if it is not in PATH). Files are really uploaded,
over a throttled connection for the pictures of uploads in progress.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, Page, sync_playwright

from dev.store import Store, free_port

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
BUCKET, ACCESS_KEY, SECRET_KEY = "tracks", "screenshots", "screenshots-secret"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ALBUM = "Harbor Lights"
TITLES = ["First Ferry", "Salt and Diesel", "The Night Pilot", "Lanterns", "Slack Water", "Home by Morning"]
SLOW = {"offline": False, "latency": 20, "downloadThroughput": 10_000_000, "uploadThroughput": 900_000}
FAST = {**SLOW, "latency": 0, "uploadThroughput": -1, "downloadThroughput": -1}


def png(side: int, shade: Callable[[float, float], tuple[int, int, int]]) -> bytes:
    """Return a square PNG; `shade(x, y)` returns the RGB color at a position, both coordinates from 0 to 1."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = (b"\0" + b"".join(bytes(shade(x / side, y / side)) for x in range(side)) for y in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def harbor(x: float, y: float) -> tuple[int, int, int]:
    """Return the color at a position of a picture of a low sun over dark water."""
    if (x - 0.62) ** 2 + (y - 0.42) ** 2 < 0.02:
        return 250, 190, 120
    if y > 0.62:
        glow = max(0.0, 1 - abs(x - 0.62) * 6) * (1 if int(y * 40) % 2 else 0.3)
        return int(20 + 190 * glow), int(38 + 90 * glow), int(66 + 40 * glow)
    return int(220 - 150 * (0.62 - y)), int(120 - 40 * (0.62 - y)), int(80 + 90 * (0.62 - y))


def wav(size: int) -> bytes:
    """Return `size` bytes of noise as a stereo WAV."""
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44_100, 176_400, 4, 16)
    data = os.urandom(size - 44)
    return b"RIFF" + struct.pack("<I", size - 8) + header + b"data" + struct.pack("<I", len(data)) + data


def make_files(folder: Path) -> list[Path]:
    """Create an album's folder, and return the paths of its tracks and its cover."""
    folder.mkdir()
    sizes = [2_400_000, 3_900_000, 5_200_000, 2_900_000, 3_300_000, 4_100_000]
    for number, (title, size) in enumerate(zip(TITLES, sizes, strict=True), 1):
        (folder / f"{number:02} - {title}.wav").write_bytes(wav(size))
    (folder / "cover.png").write_bytes(png(160, harbor))
    return sorted(folder.iterdir())


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """Run a store and a service, and yield the service's URL."""
    store = Store(folder / "store", free_port(), BUCKET, ACCESS_KEY, SECRET_KEY)
    store.start()
    port = free_port()
    env = {
        **os.environ, "S3_ENDPOINT": store.endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "DATABASE_URL": f"sqlite:///{folder}/loadbay.db",
        "ALLOW_ANONYMOUS": "1", "CREATE_MISSING": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_for_http(base)
        yield base
    finally:
        process.terminate()
        process.wait()
        store.stop()


def _wait_for_http(base: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urlopen(base, timeout=5):
                return
        except URLError:
            time.sleep(0.1)
    raise SystemExit("The service did not start.")


def open_session(base: str) -> str:
    """Open a session and return the URL of its upload page."""
    payload = {"collection_id": "123e4567-e89b-12d3-a456-426614174000", "metadata": {"batch_name": ALBUM}}
    request = Request(f"{base}/v1/upload_session", json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        return f"{base}/u/{json.load(response)['upload_session_id']}"


def take_screenshots(browser: Browser, base: str, files: list[Path], scheme: Scheme, invalid: Path) -> None:
    """Take a picture of each state in one color scheme."""
    profile = browser.new_context(
        locale="en-GB", color_scheme=scheme, viewport={"width": 1040, "height": 900}, reduced_motion="reduce"
    )
    page = profile.new_page()
    devtools = profile.new_cdp_session(page)
    devtools.send("Network.enable")

    def screenshot(state: str) -> None:
        page.mouse.move(0, 0)
        page.screenshot(path=IMAGES / f"{state}-{scheme}.png", full_page=True)
        print(f"docs/images/{state}-{scheme}.png", flush=True)

    page.goto(open_session(base))
    page.get_by_text("Open until").wait_for()
    screenshot("empty")
    chooser = page.locator("loadbay-uploader input[type=file]").first
    chooser.set_input_files(files)
    page.get_by_role("button", name="Upload 6 files").wait_for()
    screenshot("listed")
    devtools.send("Network.emulateNetworkConditions", SLOW)
    page.get_by_role("button", name="Upload 6 files").click()
    page.get_by_text("2 of 6 files received", exact=True).first.wait_for(timeout=90_000)
    page.wait_for_timeout(1500)
    screenshot("running")
    devtools.send("Network.emulateNetworkConditions", FAST)
    page.get_by_role("heading", name="Done: 6 files received").wait_for(timeout=90_000)
    screenshot("done")
    _upload_with_failure(page, base, [files[0], files[1], invalid])
    screenshot("failed")
    profile.close()


def _upload_with_failure(page: Page, base: str, files: list[Path]) -> None:
    page.goto(open_session(base))
    page.get_by_text("Open until").wait_for()
    page.locator("loadbay-uploader input[type=file]").first.set_input_files(files)
    page.get_by_role("button", name="Upload 3 files").click()
    page.get_by_role("heading", name="2 of 3 files received, 1 failed").wait_for(timeout=60_000)


def main() -> int:
    """Take all pictures; return the exit status."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        print("Chromium is not installed: run 'apt-get install chromium' or set CHROMIUM to its path.", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loadbay-screenshots-") as name, sync_playwright() as playwright:
        folder = Path(name)
        files = make_files(folder / ALBUM)
        invalid = folder / "03 - The Night Pilot.wav"
        invalid.write_bytes(b"%PDF-1.7\n" + bytes(80_000))
        with service(folder) as base, playwright.chromium.launch(executable_path=chromium, args=FLAGS) as browser:
            for scheme in SCHEMES:
                take_screenshots(browser, base, files, scheme, invalid)
    return 0


if __name__ == "__main__":
    sys.exit(main())
