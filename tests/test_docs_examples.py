"""The examples of the documentation, run against a service: requests work, and responses look as shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from support.api import COLLECTION, new_session, upload_track
from support.docs import DOCS, SNIPPETS, shape_differences
from support.live_server import serve
from support.sample_files import mp3
from support.store import put
from support.webhook_receiver import drain

pytestmark = pytest.mark.sqlite

KEY = "a-full-key-of-the-documentation"
MP3 = mp3()
UPLOADED = ("Close a session", "Read a track", "Complete a track", "Read any track", "Delete a track")
UPLOADED += ("Get a download URL", "Replace a cover", "List a collection's tracks")
UPLOADED += ("Replace the cover of an uploaded track", "Get a receipt")
MULTIPART = ("Get URLs for more parts", "List uploaded parts")
"""Sections whose examples are about a track that is uploaded, or a multipart upload."""


def sections(page: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the sections of a page that have shell examples: heading, and its blocks as language and text."""
    for section in re.split(r"^##+ ", (DOCS / page).read_text(), flags=re.MULTILINE):
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
        if any(language == "sh" for language, _ in blocks):
            yield section.partition("\n")[0], blocks


EXAMPLES = [*sections("api.md"), *sections("operations.md")]


def api(base: str, path: str, **payload: Any) -> dict[str, Any]:
    """Call the API and return the response's body."""
    response = requests.post(f"{base}{path}", json=payload, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
    assert response.status_code == 200, response.text
    return dict(response.json())


def prepare(base: str, heading: str) -> dict[str, str]:
    """Bring a session and a track into the state that a section is about; returns the variables of its examples."""
    session = api(base, "/v1/upload_session", collection_id=COLLECTION)["upload_session_id"]
    payload: dict[str, Any] = {"file_name": "track-1.mp3", "content_type": "audio/mpeg"}
    if heading in MULTIPART:
        payload |= {"file_size": 500_000_000, "multipart": True}
    if heading in UPLOADED:
        payload |= {"metadata": {"track_number": 1, "title": "First Track"}}
    track = api(base, f"/v1/upload/{session}/track", **payload)
    if heading in UPLOADED:
        assert put(track["track_upload"], MP3).status_code == 200
        api(base, f"/v1/upload/{session}/track/{track['track_id']}/complete")
    if heading == "Get a receipt":
        api(base, f"/v1/upload_session/{session}/close")
    url = track["track_upload"]["upload_url"]
    return {"LOADBAY": base, "KEY": KEY, "SESSION": session, "TRACK": track["track_id"], "UPLOAD_URL": url}


@pytest.mark.parametrize(("heading", "blocks"), EXAMPLES, ids=[heading for heading, _ in EXAMPLES])
def test_examples_of_the_api_are_true(heading, blocks, make_client, tmp_path, processes):
    """Each request of a section succeeds, and the JSON that follows it has the shape of the response."""
    (tmp_path / "track-1.mp3").write_bytes(MP3)
    response: Any = None
    with serve(make_client(API_KEYS=KEY, ALLOW_ANONYMOUS="0").application) as base:
        variables = prepare(base, heading)
        for language, text in blocks:
            if language == "sh":
                done = processes.run("bash", "-euo", "pipefail", "-c", text, env=variables, cwd=tmp_path)
                assert done.returncode == 0, done.stdout
                response = json.loads(done.stdout or "{}")
                assert response.get("ok", True), done.stdout
            elif language == "json" and response is not None:
                assert shape_differences(json.loads(text), response) == []


def test_examples_of_webhooks_are_true(client, receiver, webhook_secret, worker):
    """The payloads that docs/webhooks.md shows have the shape of those that are delivered."""
    session_id = new_session(client, metadata={"batch_name": "Summer 2024 Collection"})["upload_session_id"]
    upload_track(client, session_id, metadata={"title": "First Track"}, file_size=None)
    client.post(f"/v1/upload_session/{session_id}/close")
    drain(worker)
    drain(worker)
    delivered = {json.loads(message.body)["type"]: json.loads(message.body) for message in receiver.accepted}
    shown = [json.loads(s.text) for s in SNIPPETS if (s.page, s.language) == ("docs/webhooks.md", "json")]
    assert [payload["type"] for payload in shown] == ["track.uploaded", "upload_session.completed"]
    for payload in shown:
        actual = delivered[payload["type"]]
        assert shape_differences(payload, actual) == []
        assert list(actual) == list(payload)
