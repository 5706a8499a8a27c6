"""Object keys: made here and nowhere else, so that no client can choose, traverse or overwrite one.

A track's key is `PREFIX collection / index / file name`, its cover's `PREFIX collection / index .cover`. A track that
is renewed after a failure, and an object that is sealed, gets a new key: `~` and a random suffix follow the index.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from storage.ids import index_to_uuid

_safe_file_name = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,78}[A-Za-z0-9_])?(?:\.[A-Za-z0-9]{1,16})?")
_uuid = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_key = re.compile(rf"{_uuid}/([A-Za-z0-9_-]{{22}})(?:~[A-Za-z0-9_-]{{8}})?(\.cover|/[A-Za-z0-9._-]+)")


def sanitize_file_name(file_name: str) -> str:
    """Return a key-safe form of `file_name`: at most 100 of A-Z, a-z, 0-9, '.', '_' and '-', never empty or a dot.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html#object-key-guidelines
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
    """Return what follows prefix and collection in the keys of a new track and of its cover."""
    return f"/{index}/{sanitize_file_name(file_name)}", f"/{index}.cover"


def rotate_key(key: str, index: str) -> str:
    """Return a new key for the same track or cover, for which no URL has been signed."""
    head, _, tail = key.partition(f"/{index}")
    if tail.startswith("~"):
        tail = tail[9:]
    return f"{head}/{index}~{secrets.token_urlsafe(6)}{tail}"


def parse_track_id(key: str, prefix: str) -> str | None:
    """Return the id of the track that `key` belongs to, or None if it is not a key of ours."""
    match = _match(key, prefix)
    return index_to_uuid(match[1]) if match else None


def is_cover(key: str, prefix: str) -> bool:
    """Return whether `key` is that of a cover."""
    match = _match(key, prefix)
    return match is not None and match[2] == ".cover"


def _match(key: str, prefix: str) -> re.Match[str] | None:
    return _key.fullmatch(key[len(prefix) :]) if key.startswith(prefix) else None
