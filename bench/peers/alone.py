"""The store alone: the S3 requests that a client of the service sends, signed beforehand, without the service.

Headers are the same and keys alike, for a store may take longer for a condition or a new folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dev.store import Store
from storage.s3.presign import Presigner
from storage.s3.write_headers import IF_NONE_MATCH

from ..server import COLLECTION
from .clients import LARGE_FILE, PART_SIZE
from .sending import MIB, Connection, content, part

TTL = 3600
STAGING = "incoming/the-store-alone"
INSPECTED = {"Range": "bytes=0-65535"}


def final_key(number: int) -> str:
    """Return a key like that of a verified file."""
    return f"{COLLECTION}/{number:022d}/track-{number}.wav"


def staging_key(number: int) -> str:
    """Return a key like that of a file in staging."""
    return f"{STAGING}/{number:022d}.0"


class Signer(NamedTuple):
    """Address and keys of a store, which sign for it in any process."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def url(
        self, method: str, key: str, headers: Mapping[str, str] | None = None, query: Mapping[str, str] | None = None
    ) -> str:
        """Return a URL that is valid from now on."""
        return self.presigner().url(method, key, TTL, int(time.time()), headers, query)

    def presigner(self) -> Presigner:
        """Return a presigner like the service's own."""
        return Presigner(self.endpoint, self.bucket, lambda: (self.access_key, self.secret_key, None))


def signer(store: Store) -> Signer:
    """Return a signer for the store."""
    return Signer(store.endpoint, store.bucket, store.access_key, store.secret_key)


# --- Signed beforehand ------------------------------------------------------------------------------------------------


def put_headers(size: int) -> dict[str, str]:
    """Return the headers that are signed into each PUT."""
    return {"Content-Length": str(size)}


def copy_headers(signer: Signer, source: str) -> dict[str, str]:
    """Return the headers of a copy of the object with the key `source`."""
    replaced = {"x-amz-metadata-directive": "REPLACE", "Content-Type": "audio/wav"}
    return {"x-amz-copy-source": f"/{signer.bucket}/{source}", **replaced}


def sign_once(signer: Signer, numbers: Sequence[int]) -> list[str]:
    """Sign write-once PUTs."""
    headers = {**put_headers(MIB), **IF_NONE_MATCH}
    return [signer.url("PUT", final_key(number), headers) for number in numbers]


def sign_plain(signer: Signer, numbers: Sequence[int]) -> list[str]:
    """Sign plain PUTs."""
    return [signer.url("PUT", staging_key(number), put_headers(MIB)) for number in numbers]


def sign_copies(signer: Signer, numbers: Sequence[int]) -> list[tuple[str, str, str, dict[str, str]]]:
    """Sign plain PUTs, and what verification asks for after each: to read its first bytes, and to copy it."""
    requests = []
    for number, put in zip(numbers, sign_plain(signer, numbers), strict=True):
        headers = copy_headers(signer, staging_key(number))
        copy = signer.url("PUT", final_key(number), headers)
        requests.append((put, signer.url("GET", staging_key(number)), copy, headers))
    return requests


def sign_parts(signer: Signer, numbers: Sequence[int]) -> list[tuple[str, Signer]]:
    """Sign the start of multipart uploads. All else needs the upload's id, which the store chooses."""
    return [(signer.url("POST", final_key(number), None, {"uploads": ""}), signer) for number in numbers]


# --- Clients ----------------------------------------------------------------------------------------------------------


def put_once(urls: Sequence[str], numbers: Sequence[int]) -> None:
    """Send each file with the condition of a write-once URL."""
    _put(urls, numbers, IF_NONE_MATCH)


def put_plain(urls: Sequence[str], numbers: Sequence[int]) -> None:
    """Send each file."""
    _put(urls, numbers, {})


def _put(urls: Sequence[str], numbers: Sequence[int], headers: Mapping[str, str]) -> None:
    connection = Connection()
    for number, url in zip(numbers, urls, strict=True):
        connection.send("PUT", url, content(number), headers)


def put_and_copy(requests: Sequence[tuple[str, str, str, dict[str, str]]], numbers: Sequence[int]) -> None:
    """Send each file, read its first bytes, and have it copied."""
    connection = Connection()
    for number, (put, get, copy, headers) in zip(numbers, requests, strict=True):
        connection.send("PUT", put, content(number))
        connection.send("GET", get, (), INSPECTED)
        connection.send("PUT", copy, (), headers)


def put_parts(starts: Sequence[tuple[str, Signer]], numbers: Sequence[int]) -> None:
    """Start each multipart upload, send its parts, and complete it."""
    connection = Connection()
    for number, (url, signer) in zip(numbers, starts, strict=True):
        upload_id = _between(connection.send("POST", url)[1].decode(), "<UploadId>", "</UploadId>")
        etags = [
            _put_part(connection, signer, number, upload_id, start // PART_SIZE + 1, start)
            for start in range(0, LARGE_FILE, PART_SIZE)
        ]
        complete = signer.url("POST", final_key(number), None, {"uploadId": upload_id})
        connection.send("POST", complete, [_completion(etags)])


def _put_part(connection: Connection, signer: Signer, number: int, upload_id: str, part_number: int, start: int) -> str:
    """Send a part; return its ETag."""
    size = min(PART_SIZE, LARGE_FILE - start)
    query = {"partNumber": str(part_number), "uploadId": upload_id}
    url = signer.url("PUT", final_key(number), put_headers(size), query)
    headers, _ = connection.send("PUT", url, part(number, LARGE_FILE, start, size))
    return headers["ETag"]


def _completion(etags: Sequence[str]) -> bytes:
    parts = (
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    return f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]
