"""Uploads of a client that checks what comes of them, and notes what it may leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from storage.errors import ServiceError
from storage.measuring.contract_client import Answer, Content, ContractClient, Upload
from storage.s3.abilities import Abilities
from storage.s3.bucket import Bucket
from storage.s3.choices import Choices

COLLECTION = "123e4567-e89b-12d3-a456-426614174000"


class Violation(Exception):
    """A check's expectation does not hold; the message says what came instead."""


def expect(condition: object, message: str) -> None:
    """Raise Violation with the message unless the condition holds."""
    if not condition:
        raise Violation(message)


class Flow:
    """One run of checks. `verified` has the bytes of every file that is `uploaded`, by its key."""

    def __init__(self, client: ContractClient, bucket: Bucket, abilities: Abilities, choices: Choices):
        self.client, self.bucket, self.abilities, self.choices = client, bucket, abilities, choices
        self.keys, self.uploads, self.verified = set[str](), set[tuple[str, str]](), dict[str, bytes]()

    # --- Requests of a client -----------------------------------------------------------------------------------------

    def request(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Content:
        """Send a request to the API that must succeed. Raises Violation."""
        reply = self.client.call(method, path, payload)
        name = path.rpartition("/")[2]
        expect(reply.status == 200, f"{method} {name}: {reply.status} {reply.content.get('message')}")
        return reply.content

    def open_session(self, **options: Any) -> str:
        """Open a session, and return its id."""
        created = self.request("POST", "/v1/upload_session", {"collection_id": COLLECTION, **options})
        return str(created["upload_session_id"])

    def register(self, file_name: str = "track.wav", session_id: str | None = None, **declared: Any) -> Upload:
        """Register a track, in a session of its own unless one is given."""
        session_id = session_id or self.open_session()
        payload = {"file_name": file_name, **declared}
        return self.note(session_id, self.request("POST", f"/v1/upload/{session_id}/track", payload))

    def note(self, session_id: str, content: Content) -> Upload:
        """Note the keys and uploads to which the URLs of a registration lead, and return it."""
        self.keys |= {content["track"]["path"], content["track"]["cover_path"]}
        for name in ("track_upload", "track_cover_upload"):
            if target := content[name]:
                self.keys.add(target.get("fields", {}).get("key") or self.key_of(target["upload_url"]))
        upload = Upload(session_id, content["track_id"], content)
        if content["track_multipart_upload"]:
            self.uploads.add(self.upload_of(upload))
        return upload

    def key_of(self, url: str) -> str:
        """Return the key that a presigned URL leads to."""
        path = unquote(urlsplit(url).path)
        return path.partition(f"/{self.bucket.name}/")[2] or path.lstrip("/")

    def upload_of(self, upload: Upload) -> tuple[str, str]:
        """Return key and id of a multipart upload."""
        url = upload.parts[0]["upload_url"]
        return self.key_of(url), parse_qs(urlsplit(url).query)["uploadId"][0]

    def put(self, upload: Upload, body: bytes, **changed: str | None) -> Answer:
        """PUT a track's bytes."""
        return self.client.put(upload.content["track_upload"], body, **changed)

    def must_put(self, target: Content, body: bytes) -> None:
        """PUT bytes that the store must accept. Raises Violation."""
        answer = self.client.put(target, body)
        expect(answer.accepted, f"the store answers a PUT with status {answer.status}")

    # --- Expectations -------------------------------------------------------------------------------------------------

    def expect_uploaded(self, upload: Upload, body: bytes) -> Content:
        """Complete a track that must be `uploaded` with these bytes, and return it. Raises Violation."""
        reply = self.client.complete(upload)
        track: Content = reply.content.get("track", {})
        expect(reply.outcome == "uploaded", f"{reply.outcome}: {track.get('failure') or reply.content.get('message')}")
        self.verified[track["path"]] = body
        self.expect_bytes(upload, body)
        return track

    def expect_bytes(self, upload: Upload, body: bytes) -> Answer:
        """Download a track, which must have these bytes, and return the store's answer. Raises Violation."""
        download = self.request("GET", f"/v1/track/{upload.track_id}/download")["track_download"]
        answer = self.client.send("GET", download["download_url"])
        expect(answer.accepted and answer.body == body, f"other bytes than the uploaded ones, status {answer.status}")
        return answer

    def expect_refused(self, upload: Upload, answer: Answer, *, enforced: bool) -> bool:
        """Complete a track that must not be `uploaded`, and return whether the store itself has refused it.

        It must have done so where it enforces what was declared. Raises Violation.
        """
        reply, refused = self.client.complete(upload), 400 <= answer.status < 500
        expect(refused or not enforced, f"the store accepts what it rejected when it was measured ({answer.status})")
        expected = "not_uploaded" if refused else "failed"
        expect(reply.outcome == expected, f"{reply.outcome} instead of {expected}")
        return refused

    # --- Cleaning up --------------------------------------------------------------------------------------------------

    def clean_up(self, prefix: str) -> list[str]:
        """Remove all that the checks may have left below a prefix, and return the keys of the rest."""
        for key, upload_id in self.uploads:
            with suppress(ServiceError):
                self.bucket.abort_multipart_upload(key, upload_id)
        with suppress(ServiceError):
            self.keys |= {item.key for item in self.bucket.list_objects(prefix)}
        with suppress(ServiceError):
            self.bucket.delete_objects(sorted(self.keys))
        return [key for key in sorted(self.keys) if not self._is_removed(key)]

    def _is_removed(self, key: str) -> bool:
        try:
            return self.bucket.head(key) is None
        except ServiceError:
            return False
