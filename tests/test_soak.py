"""The soak test's judgment of lost tracks, and its webhook receiver."""

from __future__ import annotations

import hashlib

import pytest
import requests

from bench.soak.ledger import CANCELLED, REGISTERED, STORED, VERIFIED, Audit, Entry, judge
from bench.soak.receiver import Receiver

pytestmark = pytest.mark.sqlite

BODY = b"ID3"
SENT = (hashlib.sha256(BODY).digest(), len(BODY))


@pytest.mark.parametrize(
    ("state", "status", "stored", "lost", "lied"),
    [
        (VERIFIED, "uploaded", SENT, 0, 0),
        (REGISTERED, "initialized", None, 0, 0),
        (CANCELLED, "cancelled", None, 0, 0),
        (STORED, "initialized", None, 1, 0),
        (STORED, "failed", None, 1, 0),
        (STORED, "expired", None, 1, 0),
        (VERIFIED, "expired", None, 1, 0),
        (VERIFIED, "uploaded", None, 1, 0),
        (VERIFIED, "uploaded", (b"other", 3), 0, 1),
        (CANCELLED, "uploaded", SENT, 0, 1),
        (REGISTERED, None, None, 1, 0),
    ],
)
def test_judge_finds_lost_and_wrong_tracks(state, status, stored, lost, lied):
    """A track that the service or the store has accepted must exist in the end, with its bytes and status."""
    audit = Audit()
    judge(audit, "an-id", Entry("a-session", "a-path", *SENT, state), status and {"status": status}, stored)
    assert (len(audit.lost), len(audit.violations)) == (lost, lied)
    assert audit.uploaded == ({"an-id"} if status == "uploaded" else set())


def test_receiver_tracks_missing_events():
    """A track counts as reported by its own event only."""
    receiver = Receiver()
    try:
        for event_type, track_id in (("track.uploaded", "a"), ("track.failed", "b"), ("track.uploaded", "a")):
            event = {"type": event_type, "data": {"track_id": track_id}}
            assert requests.post(receiver.url, json=event, timeout=5).status_code == 204
        assert receiver.missing({"a"}, 0) == set()
        assert receiver.missing({"a", "b"}, 0) == {"b"}
        assert receiver.events == 3
    finally:
        receiver.close()
