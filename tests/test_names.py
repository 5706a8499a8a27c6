"""Object keys and names, whatever a file is called."""

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
def test_clean_name(file_name):
    """Any name becomes one that is safe in a key, is never empty, and stays as it is from then on."""
    cleaned = object_keys.sanitize_file_name(file_name)
    assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?", cleaned)
    assert len(cleaned) <= 100
    assert object_keys.sanitize_file_name(cleaned) == cleaned


@given(ANY, st.sampled_from(["", "uploads/", "a/b/"]))
def test_keys_lead_back(file_name, prefix):
    """A track's keys, renamed as often as may be, lead back to its id, and no two are the same."""
    id_, index = new_uuid7_and_index()
    for tail in object_keys.key_suffixes(index, file_name):
        key = f"{prefix}{uuid4()}{tail}"
        again = object_keys.rotate_key(key, index)
        keys = {key, again, object_keys.rotate_key(again, index)}
        assert len(keys) == 3
        assert {object_keys.parse_track_id(each, prefix) for each in keys} == {id_}


@given(ANY)
def test_strange_keys_lead_nowhere(key):
    """A key that is not ours is nobody's."""
    assert object_keys.parse_track_id(key, "") is None


@given(ANY)
def test_disposition(file_name):
    """Any name goes into a header whole, and cannot end it or add to it."""
    header = disposition(file_name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count(";") == 2
    assert header.count('"') == 2
    assert unquote(header.rpartition("UTF-8''")[2]) == file_name


def test_ids():
    """A session's id is random through and through; tracks' ids grow with time and yet are not to be guessed."""
    assert {UUID(new_uuid4()).version for _ in range(100)} == {4}
    before = time.time_ns() // 1_000_000
    created = [UUID(new_uuid7_and_index()[0]) for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    times = [id_.int >> 80 for id_ in created]
    assert {(id_.version, id_.variant) for id_ in created} == {(7, RFC_4122)}
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= after
    assert len({id_.int & (1 << 62) - 1 for id_ in created}) == 1000
