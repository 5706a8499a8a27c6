"""Receipts: what has arrived in a session, as a JWS that any JOSE library verifies."""

import json
from base64 import b64encode
from hashlib import sha256
from secrets import token_bytes

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from app import create_app
from support.api import assert_error, bearer, create_key, new_session, new_track, upload_track
from support.database import query
from support.sample_files import png, wav
from support.store import post_cover, put

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

DIGEST = b64encode(sha256(wav()).digest()).decode()


def verify(client, receipt):
    """Verify a receipt with the keys that the service publishes, and return header and payload."""
    keys = KeySet.import_key_set(json.loads(client.get("/.well-known/jwks.json").data))
    verified = jws.deserialize_compact(receipt, keys, algorithms=["EdDSA"])
    return verified.protected, json.loads(verified.payload)


def close(client, session_id):
    """Close a session."""
    assert client.post(f"/v1/upload_session/{session_id}/close").status_code == 200


def test_receipt_says_what_has_arrived(client):
    """The receipt has each uploaded track with its size and checksum, and says it is complete."""
    session_id = new_session(client, organization_index="order-7")["upload_session_id"]
    created = new_track(client, session_id, "á.wav", checksum_sha256=DIGEST)
    assert put(created["track_upload"], wav()).status_code == 200
    assert post_cover(created["track_cover_upload"], png()).status_code < 300
    client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete")
    new_track(client, session_id, "missing.wav")
    close(client, session_id)
    response = client.get(f"/v1/upload/{session_id}/receipt")
    header, payload = verify(client, response.json["receipt"])
    assert (header["alg"], header["typ"]) == ("EdDSA", "loadbay-receipt+json")
    assert payload.pop("iat") > 0
    assert payload.pop("opened_at").endswith("Z")
    (track,) = payload.pop("tracks")
    assert payload == {
        "upload_session_sha256": sha256(session_id.encode()).hexdigest(),
        "collection_id": "123e4567-e89b-12d3-a456-426614174000",
        "organization_index": "order-7", "status": "closed", "uploaded": 1, "uploaded_bytes": len(wav()), "first": 1,
        "last": True,
    }  # fmt: skip
    assert track.pop("uploaded_at").endswith("Z")
    assert track.pop("cover")["size"] == len(png())
    assert track.pop("etag")
    assert track == {
        "id": created["track_id"], "file_name": "á.wav", "size": len(wav()), "integrity": "sha256",
        "checksum_sha256": DIGEST,
    }  # fmt: skip
    assert session_id not in response.json["receipt"]


def test_receipt_that_was_changed_is_rejected(client):
    """A library rejects a receipt of which any part was changed."""
    session_id = new_session(client)["upload_session_id"]
    close(client, session_id)
    receipt = client.get(f"/v1/upload/{session_id}/receipt").json["receipt"]
    header, payload, signature = receipt.split(".")
    for changed in (
        f"{header}.{payload[:-4]}AAAA.{signature}",
        f"{header}.{payload}.{'A' * len(signature)}",
        ".".join((header, verify_none(payload), signature)),
    ):
        with pytest.raises(BadSignatureError):
            verify(client, changed)


def verify_none(payload):
    """Return another payload of the same length."""
    return ("B" if payload[0] == "A" else "A") + payload[1:]


def test_open_sessions_have_no_receipt(client, clock):
    """A session must be closed, or have expired; an unknown one is not found."""
    session_id = new_session(client, expires_in=60)["upload_session_id"]
    assert_error(client.get(f"/v1/upload/{session_id}/receipt"), 409, "session_open")
    clock.forward(61)
    assert verify(client, client.get(f"/v1/upload/{session_id}/receipt").json["receipt"])[1]["status"] == "expired"
    assert_error(client.get(f"/v1/upload/{'0' * 8}-0000-4000-8000-{'0' * 12}/receipt"), 404, "session_not_found")


def test_long_receipts_have_pages(client):
    """Each page is signed by itself, says where it begins, and only the last one says that it is the last."""
    session_id = new_session(client)["upload_session_id"]
    ids = [upload_track(client, session_id)["track_id"] for _ in range(3)]
    close(client, session_id)
    ids_in_order, after = [], ""
    while after is not None:
        query_string = f"limit=2&after={after}" if after else "limit=2"
        response = client.get(f"/v1/upload/{session_id}/receipt?{query_string}").json
        payload = verify(client, response["receipt"])[1]
        assert (payload["first"], payload["uploaded"]) == (len(ids_in_order) + 1, 3)
        ids_in_order += [track["id"] for track in payload["tracks"]]
        after = response["next_after"]
        assert payload["last"] is (after is None)
    assert ids_in_order == ids
    for text in ("limit=0", "limit=1001", "after=x", f"after={session_id}"):
        assert_error(client.get(f"/v1/upload/{session_id}/receipt?{text}"), 400, "invalid_request", text[:5])


def test_receipt_has_what_is_left(client):
    """A track that was removed is not in the receipt."""
    session_id = new_session(client)["upload_session_id"]
    created, other = upload_track(client, session_id), upload_track(client, session_id)
    client.delete(f"/v1/upload/{session_id}/track/{created['track_id']}?uploaded=true")
    close(client, session_id)
    payload = verify(client, client.get(f"/v1/upload/{session_id}/receipt").json["receipt"])[1]
    assert [track["id"] for track in payload["tracks"]] == [other["track_id"]]


def test_keys_are_rotated(settings):
    """The first of RECEIPT_KEYS signs, and the receipts of those behind it can still be verified."""
    old, new = (b64encode(token_bytes(32)).decode() for _ in range(2))
    before = create_app({**settings, "RECEIPT_KEYS": old}).test_client()
    session_id = new_session(before)["upload_session_id"]
    close(before, session_id)
    receipt = before.get(f"/v1/upload/{session_id}/receipt").json["receipt"]
    after = create_app({**settings, "RECEIPT_KEYS": f"{new},{old}"}).test_client()
    kid = verify(after, receipt)[0]["kid"]
    assert verify(after, after.get(f"/v1/upload/{session_id}/receipt").json["receipt"])[0]["kid"] != kid


def test_the_public_key_is_all_that_is_published(app, client):
    """The JWK set has no private part, and may be read by any page."""
    response = client.get("/.well-known/jwks.json")
    assert response.content_type == "application/jwk-set+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    (key,) = json.loads(response.data)["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
    seed = query(app, "SELECT receipt_seed FROM loadbay_deployment")[0][0]
    assert seed.rstrip("=") not in response.text.replace("-", "+").replace("_", "/")


def test_download_has_the_cover(app, client):
    """A full key gets URLs of the file and of its cover, each under a name; without a cover, null."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    assert put(created["track_upload"], wav()).status_code == 200
    assert post_cover(created["track_cover_upload"], png()).status_code < 300
    client.post(f"/v1/upload/{session_id}/track/{created['track_id']}/complete")
    key = bearer(create_key(app))
    response = client.get(f"/v1/track/{created['track_id']}/download", headers=key).json
    assert "a.wav" in response["track_download"]["download_url"]
    assert "a.png" in response["track_cover_download"]["download_url"]
    other = upload_track(client, session_id)
    assert client.get(f"/v1/track/{other['track_id']}/download", headers=key).json["track_cover_download"] is None
