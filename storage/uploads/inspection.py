"""Inspection of uploaded bytes: what the store holds for a track, compared with the declaration. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from storage.db.rows import TrackChanges, TrackRow
from storage.errors import Failure, NotUploaded
from storage.formats import audio, rules
from storage.formats.audio import Identification
from storage.formats.checksums import declared_checksum
from storage.formats.facts import AudioFacts
from storage.formats.rules import AudioRules
from storage.s3.dialects import ObjectInfo, Part
from storage.s3.errors import ObjectChanged
from storage.s3.integrity import Integrity, Proof, ask_store
from storage.service import Service
from storage.uploads import multipart, staging

Source = Literal["incoming", "direct", "parts", "copy"]
"""The way that a track's bytes came: to its staging key, to its final key by a write-once PUT, or in parts.

`copy` is a copy of the service's own at the final key, and never chosen.
"""

UNTYPED = (None, "", "application/octet-stream", "binary/octet-stream")
"""Content-Types that stores give to an object whose sender named none."""

UNIDENTIFIED = Identification(None, "unknown")
SENDER_HEADERS = Failure(
    "sender_headers", "The file has headers of its sender, which the store does not remove from a copy."
)
REPLACED = Failure("replaced", "The file was replaced while it was verified.")
UNTRUSTED = Failure(
    "write_once_untrusted",
    "The file was uploaded by a write-once URL, which this deployment no longer trusts (WRITE_ONCE_PUT=0).",
)


@dataclass(frozen=True)
class Candidate:
    """Bytes that may become the track's file: those of an object, or the parts of a multipart upload.

    `etag` identifies the bytes: an object's ETag, or the fingerprint of parts. `failure` says how they differ from the
    declaration, or which rule of the session they break, `facts` what an audio file says of itself, `integrity` by what
    they were proven to be declared, if they were. `needs_copy` is False for an object that already lies at the final
    key with the right headers.
    """

    source: Source
    etag: str
    size: int
    version_id: str | None = None
    detected_type: str | None = None
    facts: AudioFacts | None = None
    failure: Failure | None = None
    integrity: Integrity | None = None
    needs_copy: bool = True
    parts: tuple[Part, ...] | None = None


def inspect(service: Service, row: TrackRow) -> Candidate:
    """Return the bytes that were uploaded for a track in its current attempt.

    Raises NotUploaded, StorageUnavailable, StorageRejected.
    """
    if row["upload_id"] is not None:
        return _inspect_multipart(service, row, row["upload_id"])
    candidate = None
    if row["write_once"] and row["attempt"] == 0:
        candidate = inspect_object(service, row, "direct", row["path"])
    if candidate is None and not staging.is_direct(service, row):
        candidate = inspect_object(service, row, "incoming", staging.track_key(service, row))
    if candidate is None:
        raise NotUploaded
    return candidate


def _inspect_multipart(service: Service, row: TrackRow, upload_id: str) -> Candidate:
    parts = service.bucket.list_parts(row["path"], upload_id)
    if parts is None:
        # Completed earlier (by a verification that the database does not know, if it was restored), or aborted.
        candidate = inspect_object(service, row, "parts", row["path"])
        missing = None
    else:
        missing = multipart.missing_parts(row, parts)
        if missing is None:
            integrity: Integrity | None = None if declared_checksum(row) else "size"
            size = sum(part.size or 0 for part in parts)
            return Candidate("parts", multipart.fingerprint(parts), size, integrity=integrity, parts=tuple(parts))
        candidate = None
    candidate = candidate or inspect_object(service, row, "incoming", staging.track_key(service, row))
    if candidate is None:
        raise NotUploaded(missing)
    return candidate


def inspect_object(service: Service, row: TrackRow, source: Source, key: str) -> Candidate | None:
    """Return the object at `key` as a candidate, or None where there is none."""
    observed = service.bucket.stat_and_read(key, audio.HEAD_BYTES)
    if observed is None:
        return None
    info, head = observed
    # A file that is refused for its size is not read any further.
    failure = UNTRUSTED if staging.is_untrusted(service, row) else find_wrong_size(service, row, info.size)
    content = UNIDENTIFIED if failure else identify(service, row, info, head)
    failure = failure or find_wrong_content(row, content) or find_broken_rule(row, content.facts)
    if source == "copy" and not _has_safe_headers(service, row, info, content.media_type):
        failure = failure or SENDER_HEADERS
    proof = Proof(failure=failure) if failure else _prove(service, row, info, source)
    has_right_headers = _has_right_headers(service, row, info, content.media_type)
    needs_copy = source == "incoming" or (source == "direct" and not has_right_headers)
    return Candidate(
        source=source,
        etag=info.etag,
        size=info.size,
        version_id=info.version_id,
        detected_type=content.media_type,
        facts=content.facts,
        failure=proof.failure,
        integrity=proof.integrity,
        needs_copy=needs_copy,
    )


def identify(service: Service, row: TrackRow, info: ObjectInfo, head: bytes) -> Identification:
    """Return what an object that begins with `head` is. Raises NotUploaded where it is replaced meanwhile."""
    reader = audio.open_reader(partial(service.bucket.read_range, info.key, info.etag), head, info.size)
    try:
        return audio.identify(reader, row["file_name"], row["content_type"])
    except ObjectChanged as e:
        raise NotUploaded(f"track_id: {REPLACED.message} Try again.") from e


def find_wrong_size(service: Service, row: TrackRow, size: int) -> Failure | None:
    """Return how a file of `size` bytes differs from the declaration, or what size it must not have, as a sentence."""
    limit = service.settings.max_track_bytes
    if row["file_size"] is not None and size != row["file_size"]:
        return Failure("size_mismatch", f"The file has {size} bytes, not the {row['file_size']} that were declared.")
    if size > limit:
        return Failure("file_too_large", f"The file has {size} bytes, more than the {limit} that a track may have.")
    if size == 0:
        return Failure("empty_file", "The file is empty.")
    return rules.check_size(_audio_rules(row), size)


def find_wrong_content(row: TrackRow, content: Identification) -> Failure | None:
    """Return what a file is that is declared to be audio and is none, as a sentence."""
    if content.verdict == "not_audio" and audio.claims_audio(row["file_name"], row["content_type"]):
        return Failure("not_audio", f"The file is not audio: {content.reason}.")
    return None


def find_broken_rule(row: TrackRow, facts: AudioFacts | None) -> Failure | None:
    """Return the rule of its session that a file breaks, if there is one. `facts` is what the file tells of itself."""
    return rules.check_audio(_audio_rules(row), facts)


def _audio_rules(row: TrackRow) -> AudioRules:
    return rules.parse(row["rules"]).get("audio", {})


def _prove(service: Service, row: TrackRow, info: ObjectInfo, source: Source) -> Proof:
    """Compare an object with the declared checksum as far as the store tells its own. Raises NotUploaded."""
    declared = declared_checksum(row)
    if declared is None:
        return Proof("size")
    try:
        return ask_store(service.bucket, info.key, info.etag, declared, joined=source == "parts")
    except ObjectChanged as e:
        raise NotUploaded(f"track_id: {REPLACED.message} Try again.") from e


def _has_right_headers(service: Service, row: TrackRow, info: ObjectInfo, detected_type: str | None) -> bool:
    """Return True where the object has no header of its sender's but a Content-Type that is declared or detected."""
    if info.sends_them or info.metadata != service.bucket.write_headers.metadata(row):
        return False
    if row["content_type"] is not None:
        return info.content_type == row["content_type"]
    return info.content_type in UNTYPED or audio.is_same_type(info.content_type, detected_type)


def _has_safe_headers(service: Service, row: TrackRow, info: ObjectInfo, detected_type: str | None) -> bool:
    """Return True where a copy has no header of its source: its type is the one of the copy, or none at all."""
    is_own_type = info.content_type in (*UNTYPED, content_type(row, detected_type))
    return not info.sends_them and (is_own_type or not service.choices.keeps_types)


def content_type(row: TrackRow, detected_type: str | None) -> str:
    """Return the Content-Type of a verified file: the declared one, else the detected one."""
    return row["content_type"] or detected_type or "application/octet-stream"


def observed_columns(candidate: Candidate) -> TrackChanges:
    """Return the columns of a track that say what was seen of its bytes."""
    facts = candidate.facts
    picture = facts.picture if facts else None
    return {
        "size": candidate.size,
        "detected_type": candidate.detected_type,
        "audio": facts.content() if facts else None,
        "audio_container": facts.container if facts else None,
        "audio_codec": facts.codec if facts else None,
        "audio_duration": facts.duration if facts else None,
        "picture_offset": picture.offset if picture else None,
        "picture_size": picture.size if picture else None,
    }
