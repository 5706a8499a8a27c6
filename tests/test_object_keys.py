"""Object keys, ids and Content-Disposition for any file name."""

from __future__ import annotations

import re
import time
from urllib.parse import unquote
from uuid import RFC_4122, UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from storage.ids import new_uuid4, new_uuid7_and_index
from storage.s3 import object_keys
from storage.uploads.organization import disposition

ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(ANY)
def test_sanitizes_any_file_name(file_name):
    """Any file name becomes a non-empty name that is safe in a key, and that does not change again."""
    sanitized = object_keys.sanitize_file_name(file_name)
    assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?", sanitized)
    assert len(sanitized) <= 100
    assert object_keys.sanitize_file_name(sanitized) == sanitized


@given(ANY, st.sampled_from(["", "uploads/", "a/b/"]))
def test_keys_contain_the_track_id(file_name, prefix):
    """A track's final keys differ and contain its id."""
    track_id, index = new_uuid7_and_index()
    keys = {f"{prefix}{uuid4()}{suffix}" for suffix in object_keys.key_suffixes(index, file_name)}
    assert len(keys) == 2
    assert {object_keys.final_track_id(key) for key in keys} == {track_id}


@given(ANY)
def test_foreign_keys_have_no_track_id(key):
    """A key of another format belongs to no track."""
    assert object_keys.parse_track_id(key, "") is None


@given(ANY)
def test_disposition_has_any_file_name(file_name):
    """Any file name is encoded whole in Content-Disposition, and cannot end the header or add to it."""
    header = disposition(file_name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count(";") == 2
    assert header.count('"') == 2
    assert unquote(header.rpartition("UTF-8''")[2]) == file_name


def test_session_ids_are_random_and_track_ids_are_ordered():
    """Session ids are UUIDv4; track ids are UUIDv7, in order of time and yet unguessable."""
    assert {UUID(new_uuid4()).version for _ in range(100)} == {4}
    earliest = time.time_ns() // 1_000_000
    created = [UUID(new_uuid7_and_index()[0]) for _ in range(1000)]
    latest = time.time_ns() // 1_000_000
    times = [track_id.int >> 80 for track_id in created]
    assert {(track_id.version, track_id.variant) for track_id in created} == {(7, RFC_4122)}
    assert times == sorted(times)
    assert earliest <= times[0]
    assert times[-1] <= latest
    assert len({track_id.int & (1 << 62) - 1 for track_id in created}) == 1000
