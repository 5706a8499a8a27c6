"""Object keys: made here and nowhere else, so that no client can choose, traverse or overwrite one.

A track has a final key, `PREFIX collection / index / file name`; its cover has `PREFIX collection / index .cover`.
Both are fixed when the track is registered. What a client may still write over is uploaded to a staging key:
`PREFIX incoming / deployment id / index . attempt`, followed by `.cover` for a cover. Each attempt has a staging key of
its own, and the deployment's id keeps apart deployments that share a bucket.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from storage.ids import index_to_uuid

INCOMING = "incoming"

_safe_file_name = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,78}[A-Za-z0-9_])?(?:\.[A-Za-z0-9]{1,16})?")
_uuid = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_index = r"[A-Za-z0-9_-]{22}"
_track_key = re.compile(rf"{_uuid}/({_index})/[A-Za-z0-9._-]+")
_final_key = re.compile(rf"(?:^|/){_uuid}/({_index})(?:\.cover|/[A-Za-z0-9._-]+)$")
_staging_key = re.compile(rf"({_index})\.(0|[1-9][0-9]{{0,8}})(\.cover)?")


class StagedUpload(NamedTuple):
    """The upload that a staging key belongs to."""

    track_id: str
    attempt: int
    is_cover: bool


def sanitize_file_name(file_name: str) -> str:
    """Return a key-safe form of `file_name`: at most 100 of A-Z, a-z, 0-9, '.', '_' and '-', never empty or a dot.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html#object-key-guidelines

    >>> sanitize_file_name("Café del Mar (live).MP3")
    'Cafe-del-Mar-live.MP3'
    """
    if _safe_file_name.fullmatch(file_name):
        return file_name
    ascii_name = unicodedata.normalize("NFKD", file_name).encode("ascii", "ignore").decode()
    stem, dot, extension = ascii_name.rpartition(".")
    if not dot:
        stem, extension = extension, ""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:80] or "track"
    extension = re.sub(r"[^A-Za-z0-9]+", "", extension)[:16]
    return f"{stem}.{extension}" if extension else stem


def key_suffixes(index: str, file_name: str) -> tuple[str, str]:
    """Return what follows prefix and collection in the final keys of a track and of its cover.

    >>> key_suffixes("AZOb8GxNcYKq3mB5v0pXwA", "track-1.mp3")
    ('/AZOb8GxNcYKq3mB5v0pXwA/track-1.mp3', '/AZOb8GxNcYKq3mB5v0pXwA.cover')
    """
    return f"/{index}/{sanitize_file_name(file_name)}", f"/{index}.cover"


def staging_prefix(prefix: str, deployment_id: str) -> str:
    """Return what all staging keys of a deployment begin with.

    >>> staging_prefix("uploads/", "m3Tq0vXbT1y2kZ8sWfRk_A")
    'uploads/incoming/m3Tq0vXbT1y2kZ8sWfRk_A/'
    """
    return f"{prefix}{INCOMING}/{deployment_id}/"


def staging_key(path: str, deployment_id: str, index: str, attempt: int, *, cover: bool = False) -> str:
    """Return the staging key of an attempt to upload the track (or its cover) whose final key is `path`.

    Its prefix is that of `path`, so that a change of S3_PREFIX loses no upload.

    >>> path = "uploads/123e4567-e89b-12d3-a456-426614174000/AZOb8GxNcYKq3mB5v0pXwA/track-1.mp3"
    >>> staging_key(path, "m3Tq0vXbT1y2kZ8sWfRk_A", "AZOb8GxNcYKq3mB5v0pXwA", 0)
    'uploads/incoming/m3Tq0vXbT1y2kZ8sWfRk_A/AZOb8GxNcYKq3mB5v0pXwA.0'
    """
    # The collection's id has 36 characters.
    prefix = path[: path.index(f"/{index}/") - 36]
    return f"{prefix}{INCOMING}/{deployment_id}/{index}.{attempt}{'.cover' if cover else ''}"


def parse_staging_key(key: str, prefix: str, deployment_id: str) -> StagedUpload | None:
    """Return the upload that a staging key of this deployment belongs to, or None where `key` is not one.

    >>> key = "incoming/m3Tq0vXbT1y2kZ8sWfRk_A/AZOb8GxNcYKq3mB5v0pXwA.2.cover"
    >>> parse_staging_key(key, "", "m3Tq0vXbT1y2kZ8sWfRk_A")
    StagedUpload(track_id='01939bf0-6c4d-7182-aade-6079bf4a57c0', attempt=2, is_cover=True)
    """
    start = staging_prefix(prefix, deployment_id)
    match = _staging_key.fullmatch(key[len(start) :]) if key.startswith(start) else None
    track_id = index_to_uuid(match[1]) if match else None
    return StagedUpload(track_id, int(match[2]), match[3] is not None) if match and track_id else None


def parse_track_id(key: str, prefix: str) -> str | None:
    """Return the id of the track whose final key `key` may be, or None where it is no such key.

    >>> parse_track_id("123e4567-e89b-12d3-a456-426614174000/AZOb8GxNcYKq3mB5v0pXwA/track-1.mp3", "")
    '01939bf0-6c4d-7182-aade-6079bf4a57c0'
    """
    match = _track_key.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
    return index_to_uuid(match[1]) if match else None


def final_track_id(key: str) -> str | None:
    """Return the id of the track that `key` may be the final key of, or of its cover, whatever its prefix.

    >>> final_track_id("uploads/123e4567-e89b-12d3-a456-426614174000/AZOb8GxNcYKq3mB5v0pXwA.cover")
    '01939bf0-6c4d-7182-aade-6079bf4a57c0'
    """
    match = _final_key.search(key)
    return index_to_uuid(match[1]) if match else None
