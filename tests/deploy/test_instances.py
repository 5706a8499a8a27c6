"""Two services on one PostgreSQL and one store, behind nginx with deploy/nginx.conf, act as one service."""

from __future__ import annotations

import orjson
import pytest

from support.api import COLLECTION
from support.nginx import run_gunicorn
from support.processes import wait_until
from support.sample_files import wav
from support.store import put

pytestmark = pytest.mark.postgresql


@pytest.fixture
def proxy(make_proxy, settings, processes, tmp_path):
    """nginx that distributes requests to two services in turn."""
    sockets = [tmp_path / "first.sock", tmp_path / "second.sock"]
    servers = " ".join(f"server unix:{socket} fail_timeout=2s;" for socket in sockets)
    proxy = make_proxy({"server unix:/run/loadbay/gunicorn.sock fail_timeout=2s;": servers})
    with run_gunicorn(processes, sockets[0], settings), run_gunicorn(processes, sockets[1], settings):
        yield proxy


def test_both_services_share_a_session(proxy, bucket):
    """Each service sees the changes of the other: uploads, cancellations, renewals, limits and the end of a session."""

    def request(method, path, status=200, **options):
        response = proxy.request(method, path, **options)
        assert response.status_code == status, response.text
        return response.json()

    payload = {"collection_id": COLLECTION, "max_tracks": 4}
    session = request("POST", "/v1/upload_session", json=payload)["upload_session_id"]

    def register(status=200, **headers):
        return request("POST", f"/v1/upload/{session}/track", status, json={"file_name": "a.wav"}, headers=headers)

    created = [register(), register(), register()]
    repeated_ids = [register(**{"Idempotency-Key": "the-same"})["track_id"] for _ in range(2)]
    assert repeated_ids[0] == repeated_ids[1]
    assert register(409)["code"] == "track_limit_reached"
    plain, cancelled, renewed = (f"/v1/upload/{session}/track/{track['track_id']}" for track in created)

    put(created[0]["track_upload"], wav())
    first, second = (request("POST", f"{plain}/complete")["track"] for _ in range(2))
    assert first["status"] == "uploaded"
    assert first == second
    assert bucket.get(first["path"]) == wav()

    assert [request("DELETE", cancelled)["track"]["status"] for _ in range(2)] == ["cancelled"] * 2
    assert request("POST", f"{cancelled}/complete")["track"]["status"] == "cancelled"

    put(request("POST", f"{renewed}/renew")["track_upload"], wav(seed=1))
    assert request("POST", f"{renewed}/complete")["track"]["status"] == "uploaded"

    manifests = [request("POST", f"/v1/upload_session/{session}/close")["manifest"]["tracks"] for _ in range(2)]
    assert manifests[0] == manifests[1]
    statuses = [track["status"] for track in manifests[0]]
    assert statuses == ["uploaded", "cancelled", "uploaded", "initialized"]
    assert register(410)["code"] == "session_closed"

    wait_until(lambda: '"status":410' in proxy.log(), "The log lacks the last request.")
    served = {orjson.loads(line)["upstream"] for line in proxy.log().splitlines()}
    assert len(served) == 2, "Only one service got requests."
