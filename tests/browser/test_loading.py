"""Loading of the lists after the component is shown: nothing is lost meanwhile; a failure is retried, or told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.helpers import Uploader, expect_received, file_payload
from support.sample_files import wav

LISTS = re.compile(r"/loadbay/lists[^/]*\.js(\?|$)")
ADD_AND_START = """(component, body) => {
  component.addFiles([new File([new Uint8Array(body)], "b.wav")]);
  component.start();
}"""


@pytest.fixture(params=["1", "0"], ids=["built", "source"])
def link(serve, request):
    """A service with what a deploy serves, or with static/ as it is; and the URL of a session's page."""
    service = serve(BUILT_ASSETS=request.param)
    session_id = service.open_session()
    return service, session_id, f"{service.base}/u/{session_id}"


def test_files_wait_for_the_lists(link, page):
    """Files that are chosen, added and started by script before the lists are loaded are uploaded, in this order."""
    service, session_id, url = link
    requests = []
    page.route(LISTS, lambda route: requests.append(route))
    page.goto(url)
    page.get_by_text("Open until").wait_for()
    uploader = Uploader(page)
    uploader.choose(file_payload("a.wav", wav(seed=1)))
    page.locator("loadbay-uploader").evaluate(ADD_AND_START, list(wav(seed=2)))
    expect(page.get_by_text("Reading files…").first).to_be_visible()
    requests[0].continue_()
    for name in ("a.wav", "b.wav"):
        expect_received(uploader.row(name))
    assert {track["file_name"] for track in service.tracks(session_id)} == {"a.wav", "b.wav"}


def test_dropped_connection_is_waited_for(link, page):
    """If the lists fail to load, the page says that it waits, and goes on by itself with the files chosen meanwhile."""
    service, session_id, url = link
    failed = []

    def fail_twice(route):
        failed.append(route.request.url)
        if len(failed) <= 2:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(LISTS, fail_twice)
    page.goto(url)
    uploader = Uploader(page)
    expect(page.get_by_role("heading", name="Please wait")).to_be_visible()
    uploader.choose(file_payload("a.wav", wav()))
    uploader.upload()
    expect_received(uploader.row("a.wav"))
    expect(page.get_by_role("heading", name="Please wait")).to_be_hidden()
    assert len(service.tracks(session_id)) == 1
    # A browser does not ask again for a URL that has failed.
    assert len(set(failed)) == 3


def test_lists_that_cannot_be_loaded_are_told(link, page):
    """If they fail again and again, the page asks to be reloaded, and takes no files that would be lost."""

    def hurry(route):
        response = route.fetch()
        html = response.text().replace("<loadbay-uploader", '<loadbay-uploader retry-delay="1"')
        route.fulfill(response=response, body=html)

    page.route(link[2], hurry)
    page.route(LISTS, lambda route: route.abort("connectionreset"))
    page.goto(link[2])
    notice = page.get_by_role("region", name="The upload area has not loaded")
    expect(notice).to_contain_text("Please reload the page.")
    expect(page.get_by_role("button", name="Choose files")).to_be_hidden()


def test_session_that_ended_meanwhile_is_told(link, page):
    """Files chosen before the lists are loaded are not added to a session that has ended by then."""
    service, session_id, url = link
    requests = []
    page.route(LISTS, lambda route: requests.append(route))
    service.expire(session_id)
    page.goto(url)
    expect(page.get_by_role("heading", name="This link has expired")).to_be_visible()
    page.locator("loadbay-uploader").evaluate(ADD_AND_START, list(wav()))
    requests[0].continue_()
    expect(page.get_by_role("heading", name="This link has expired")).to_be_visible()
    expect(Uploader(page).files.get_by_role("listitem")).to_have_count(0)
