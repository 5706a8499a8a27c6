"""The owner's page: a link is made, what came is seen and downloaded, and the key stays in the tab's memory."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from browser.helpers import Uploader, expect_received, file_payload
from support.api import COLLECTION, bearer
from support.sample_files import png, wav

KEY = "owners-full-key-0123456789"


@pytest.fixture
def closed_service(serve, no_secrets_in_logs):
    """A service that takes KEY, and nobody without a key."""
    no_secrets_in_logs.secrets.add(KEY)
    return serve(ALLOW_ANONYMOUS="", API_KEYS=KEY)


@pytest.fixture
def sign_in(page):
    """Open `/` and type a key."""

    def go(service, key=KEY):
        page.goto(f"{service.base}/")
        page.get_by_label("Full API key").fill(key)
        page.keyboard.press("Enter")

    return go


def read_session(service, session_id):
    """Return a session as the API has it."""
    return requests.get(f"{service.base}/v1/upload_session/{session_id}", timeout=10).json()["upload_session"]


def link_of(page):
    """Return the link of the session whose details are open."""
    return page.get_by_label("Link", exact=True).input_value()


def test_owner_makes_a_link_and_downloads_what_came(closed_service, sign_in, page, context, tmp_path):
    """A link is made for 7 days with its title, sender and limits; what is uploaded by it is listed and downloaded."""
    sign_in(closed_service)
    expect(page.get_by_text("There are none yet.")).to_be_visible()
    page.get_by_label("Title").fill("Summer 2024")
    page.get_by_label("Your name").fill("Example Records")
    page.get_by_label("Files at most").fill("2")
    page.get_by_label("Gigabytes at most").fill("0.5")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link", exact=True)
    expect(link).to_be_focused()
    session = read_session(closed_service, link_of(page).rsplit("/", 1)[1])
    assert link_of(page).startswith(f"{closed_service.base}/u/")
    assert (session["page"]["title"], session["page"]["sender"]) == ("Summer 2024", "Example Records")
    assert (session["max_tracks"], session["max_bytes"]) == (2, 500_000_000)
    lifetime = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(session["created_at"])
    assert lifetime == timedelta(days=7)

    artist = context.new_page()
    artist.goto(link_of(page))
    uploader = Uploader(artist)
    body = wav(seed=7)
    uploader.choose(file_payload("01 One.wav", body), file_payload("01 One.png", png(), "image/png"))
    uploader.upload()
    expect_received(uploader.row("01 One.wav"))

    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("1 file received").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download 01 One.wav").click()
    assert download.value.suggested_filename == "01 One.wav"
    download.value.save_as(tmp_path / "got.wav")
    assert (tmp_path / "got.wav").read_bytes() == body
    expect(page.get_by_role("button", name="Download the cover of 01 One.wav")).to_be_visible()


def test_owner_extends_and_closes_a_link(closed_service, sign_in, page):
    """The end of a link is changed; a link is closed after a question, and says so."""
    sign_in(closed_service)
    page.get_by_role("button", name="Make a link").click()
    session_id = link_of(page).rsplit("/", 1)[1]
    page.get_by_label("Works from now for").select_option("30 days")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("status")).to_have_text("The link works until then.")
    left = datetime.fromisoformat(read_session(closed_service, session_id)["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("button", name="Keep it open").click()
    assert read_session(closed_service, session_id)["status"] == "open"
    page.get_by_role("button", name="Close", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("status")).to_have_text("The link is closed.")
    expect(page.locator("summary .state")).to_have_text("Closed")
    assert read_session(closed_service, session_id)["status"] == "closed"


def test_sessions_are_listed_newest_first(closed_service, sign_in, page):
    """All sessions of the organization can be seen, in steps, with the newest first."""
    for number in range(27):
        body = {"collection_id": str(uuid4()), "metadata": {"batch_name": f"Batch {number}"}}
        requests.post(f"{closed_service.base}/v1/upload_session", json=body, headers=bearer(KEY), timeout=10)
    sign_in(closed_service)
    titles = page.locator("summary .name")
    expect(titles).to_have_count(25)
    page.get_by_role("button", name="Show earlier ones").click()
    expect(titles).to_have_text([f"Batch {number}" for number in reversed(range(27))])
    expect(page.get_by_role("button", name="Show earlier ones")).to_be_hidden()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("unknown-key-0123456789", "This is not an API key of this service"),
        ("schlüssel", "it has characters that no key has"),
        (None, "This key can only open upload sessions"),
    ],
)
def test_other_keys_are_refused(closed_service, sign_in, page, no_secrets_in_logs, key, text):
    """An unknown key and that of an uploader are refused in clear words, and nothing else is shown."""
    if key is None:
        body = {"name": "app", "collection_id": COLLECTION}
        response = requests.post(f"{closed_service.base}/v1/api_key", json=body, headers=bearer(KEY), timeout=10)
        key = response.json()["key"]
        no_secrets_in_logs.secrets.add(key)
    sign_in(closed_service, key)
    expect(page.get_by_role("alert")).to_contain_text(text)
    expect(page.get_by_label("Full API key")).to_have_value("")
    expect(page.get_by_role("button", name="Make a link")).to_have_count(0)


def test_key_stays_in_memory_alone(closed_service, sign_in, page, context):
    """The key is in no storage, cookie, address or field, and a reload or the back button forgets it."""
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    sign_in(closed_service)
    expect(page.get_by_role("button", name="Make a link")).to_be_visible()
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, history.state])")
    assert stored == '[{},{},"",null]'
    assert context.cookies() == []
    assert not any(KEY in url for url in [*urls, page.url])
    assert KEY not in page.content()
    page.goto(f"{closed_service.base}/docs")
    page.go_back()
    expect(page.get_by_label("Full API key")).to_have_value("")
    expect(page.get_by_role("button", name="Make a link")).to_have_count(0)


def test_forgotten_key_closes_the_page(closed_service, sign_in, page):
    """The key can be forgotten without leaving the page."""
    sign_in(closed_service)
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("Full API key")).to_be_focused()
    expect(page.get_by_role("button", name="Make a link")).to_have_count(0)


def test_invalid_values_are_told(closed_service, sign_in, page):
    """An error of the service is shown in its words, and the form can be sent again."""
    sign_in(closed_service)
    page.get_by_label("Collection").fill("not-a-uuid")
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("alert")).to_contain_text("collection_id")
    page.get_by_label("Collection").fill(COLLECTION)
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_label("Link", exact=True)).to_have_value(re.compile("/u/"))
    expect(page.locator("#problem")).to_be_empty()


@pytest.mark.parametrize("context_options", [{"viewport": {"width": 320, "height": 640}}])
def test_owners_page_is_accessible_on_a_phone(closed_service, sign_in, page):
    """axe finds nothing at 320 px, before and after the key, and nothing is wider than the screen."""
    sign_in(closed_service, "unknown-key-0123456789")
    expect(page.get_by_role("alert")).not_to_be_empty()
    assert Axe().run(page).response["violations"] == []
    sign_in(closed_service)
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_label("Link", exact=True)).to_be_focused()
    assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
