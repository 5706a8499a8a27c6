"""The API reference in a browser: Swagger UI under the page's policy, its search, and its requests."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect


@pytest.fixture
def reference(service, page):
    """The API reference, rendered; nothing may be loaded from another server."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{service.base}/docs")
    page.locator(".opblock").first.wait_for()
    yield page
    assert [url for url in requested if not url.startswith((service.base, "data:"))] == []


def operation(page, path, method="POST"):
    """Return the entry of an operation."""
    exact = page.locator(f'[data-path="{path}"]')
    return page.locator(".opblock").filter(has=exact).filter(has=page.get_by_text(method, exact=True)).first


def test_reference_is_grouped(reference):
    """The operations are in the groups of the document, each with its description, and webhooks follow."""
    groups = reference.locator("h3.opblock-tag")
    expect(groups.first).to_contain_text("Upload sessions")
    expect(groups.filter(has_text="Organization")).to_contain_text("full API key")
    expect(operation(reference, "/v1/upload/{upload_session_id}/track")).to_contain_text("Register a track")
    expect(reference.get_by_role("heading", name="Webhooks")).to_be_visible()
    expect(reference.get_by_text("track.uploaded")).to_be_visible()


def test_search_finds_operations_by_words(reference):
    """The search keeps the operations that contain all of its words, and their groups."""
    reference.get_by_role("textbox", name="Search").fill("presigned parts")
    expect(reference.locator("h3.opblock-tag")).to_have_count(1)
    expect(reference.locator("h3.opblock-tag")).to_contain_text("Multipart uploads")
    expect(operation(reference, "/v1/upload/{upload_session_id}/track/{track_id}/parts")).to_be_visible()


def test_examples_of_responses(reference):
    """An opened operation shows an example of its response, and one for each error code."""
    entry = operation(reference, "/v1/upload/{upload_session_id}/track")
    entry.click()
    expect(entry.locator('tr[data-code="200"]')).to_contain_text("track_cover_upload")
    expect(entry.locator('tr[data-code="410"]').get_by_role("option", name="session_closed")).to_be_attached()


def test_request_from_the_reference(service, reference):
    """A request sent from the page reaches the service, and the page shows its response."""
    entry = operation(reference, "/v1/upload_session")
    entry.click()
    entry.get_by_role("button", name="Execute").click()
    response = entry.locator(".live-responses-table")
    expect(response.locator("tbody .response-col_status")).to_contain_text("200")
    expect(response).to_contain_text('"collection_id": "123e4567-e89b-12d3-a456-426614174000"')
