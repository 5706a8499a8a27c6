"""Object keys, ids and Content-Disposition for any file name."""

from __future__ import annotations

import re
import time
from functools import reduce
from operator import or_
from urllib.parse import unquote
from uuid import RFC_4122, UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from storage.ids import new_session_id, new_uuid4, new_uuid7_and_index
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


def test_session_ids_begin_with_their_second_and_are_random():
    """Session ids are UUIDv8: those of one second are neighbors in the index, and yet unguessable."""
    earliest = time.time_ns() // 1_000_000_000
    created = [UUID(new_session_id()) for _ in range(1000)]
    latest = time.time_ns() // 1_000_000_000
    seconds = {(session_id.int >> 108) for session_id in created}
    assert seconds <= {second & 0xFFFFF for second in range(earliest, latest + 1)}
    assert {(session_id.version, session_id.variant) for session_id in created} == {(8, RFC_4122)}
    varied = reduce(or_, (session_id.int ^ created[0].int for session_id in created)) & (1 << 108) - 1
    # Version and variant do not vary.
    assert (varied.bit_count(), len(set(created))) == (108 - 6, 1000)


def test_track_ids_are_ordered():
    """Track ids are UUIDv7, in order of time and yet unguessable; other ids are UUIDv4."""
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
