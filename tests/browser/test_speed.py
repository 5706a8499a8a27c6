"""The page of a deploy on a slow line, and what Lighthouse says of it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.conftest import CHROMIUM, CHROMIUM_FLAGS

LIGHTHOUSE = Path(__file__).parent / "node_modules" / ".bin" / "lighthouse"
# The slow 3G of WebPageTest: 400 kbit/s in each direction, 400 ms for each round trip.
SLOW_3G = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
USABLE = """
new Promise((resolve) => {
  const look = () => {
    const button = document.querySelector("loadbay-uploader")?.shadowRoot?.querySelector(".choose-files");
    if (button && getComputedStyle(button).visibility === "visible") resolve(performance.now());
    else requestAnimationFrame(look);
  };
  look();
})
"""
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")


@pytest.mark.alone
@pytest.mark.parametrize("size", [{"width": 390, "height": 844}])
def test_page_is_usable_within_two_seconds_on_slow_3g(serve, page, network, size):
    """Files can be chosen within two seconds after the visitor follows the link, with nothing in the cache."""
    page.set_viewport_size(size)
    service = serve(BUILT_ASSETS="1")
    session_id = service.open_session()
    network.devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    times = []
    for _ in range(3):
        page.goto("about:blank")
        network.devtools.send("Network.emulateNetworkConditions", SLOW_3G)
        page.goto(f"{service.base}/u/{session_id}", wait_until="commit")
        times.append(page.evaluate(USABLE) / 1000)
        expect(page.get_by_text("Open until")).to_be_visible()
    print(f"\nUsable on slow 3G after {', '.join(f'{seconds:.2f} s' for seconds in times)}.")
    # The machine that runs the tests may be busy; the line is not.
    assert min(times) < 2


@pytest.mark.alone
def test_lighthouse_finds_little_to_improve(serve, tmp_path):
    """Lighthouse gives the page at least 95 of 100 in each category, as on a phone of the middle class."""
    if CHROMIUM is None or not LIGHTHOUSE.exists():
        pytest.skip("Lighthouse is not installed: 'npm ci --prefix tests/browser' (Node 20 or later).")
    service = serve(BUILT_ASSETS="1")
    report, flags = tmp_path / "report.json", " ".join([*CHROMIUM_FLAGS, "--headless=new"])
    command = [
        LIGHTHOUSE, f"{service.base}/u/{service.open_session()}", "--quiet", "--output=json", f"--output-path={report}",
        f"--chrome-flags={flags}", f"--only-categories={','.join(CATEGORIES)}", "--skip-audits=is-crawlable",
    ]  # fmt: skip
    best: dict[str, float] = {}
    # Other work on the machine costs the page some points: the best of three counts.
    for _ in range(3):
        subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": CHROMIUM}, timeout=300)
        result = json.loads(report.read_text())
        scores = {name: 100 * result["categories"][name]["score"] for name in CATEGORIES}
        best = {name: max(score, best.get(name, 0)) for name, score in scores.items()}
        if min(best.values()) >= 95:
            break
    print("\nLighthouse:", best)
    audits = {name: audit["title"] for name, audit in result["audits"].items() if audit["score"] not in (1, None)}
    assert min(best.values()) >= 95, (best, audits)
