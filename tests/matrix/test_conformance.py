"""The same uploads on every store, and what is left of them: independent of the service, by boto3."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dev.matrix import STORES
from dev.store_tables import RECORDS
from storage.measuring.conformance import BODY, CHECKS, PART_SIZE, wav
from storage.s3.abilities import Abilities
from storage.uploads import sweeper
from support.store import BUCKET
from support.worker import notice_once

DAYS = 3 * 86_400
"""Seconds after which nothing of an upload may be left in staging."""


def stored(bucket, prefix):
    """Return the bytes of all objects below a prefix. Folders, which JuiceFS lists as keys, are no objects."""
    objects = {key: bucket.get(key) for key in bucket.keys(prefix)}
    return {key: body for key, body in objects.items() if body is not None}


def open_uploads(bucket, abilities, prefix):
    """Return the keys of the multipart uploads that are open below a prefix, where the store can list them."""
    if not abilities.upload_listing:
        return []
    uploads = bucket.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return [upload["Key"] for upload in uploads]


@pytest.mark.parametrize("name", CHECKS)
def test_store_conforms_and_keeps_only_what_is_uploaded(name, flow, service, bucket, settings, store_abilities, clock):
    """The check holds, boto3 reads the bytes that were uploaded, and after a sweep nothing else is left."""
    CHECKS[name](flow)
    clock.forward(DAYS)
    sweeper.sweep(service)
    assert stored(bucket, settings["S3_PREFIX"]) == flow.verified
    assert open_uploads(bucket, store_abilities, settings["S3_PREFIX"]) == []


def register_part(flow, session_id):
    """Register a multipart upload, and upload its last part only."""
    size = {"file_size": PART_SIZE + 1000, "part_size": PART_SIZE, "multipart": True}
    upload = flow.register("long.wav", session_id, **size)
    flow.must_put(upload.parts[1], wav(1000))
    return upload


def test_sweep_ends_and_removes_unfinished_uploads(flow, service, bucket, settings, store_abilities, clock):
    """A sweep verifies what has arrived, expires the rest, and removes parts and staged files."""
    session_id = flow.open_session(expires_in=60)
    missing, present, empty, late = (flow.register(f"{name}.wav", session_id) for name in ("a", "b", "c", "d"))
    parts = [register_part(flow, session_id) for _ in range(3)] if flow.choices.multipart else []
    body = BODY
    for upload, content in ((present, body), (empty, b""), (late, body)):
        flow.put(upload, content)
    flow.expect_uploaded(late, body)
    flow.put(late, body[::-1])
    clock.forward(DAYS)
    summary = sweeper.sweep(service)
    outcomes = [flow.client.call("GET", upload.path).outcome for upload in (missing, present, empty, late, *parts)]
    assert outcomes == ["expired", "uploaded", "failed", "uploaded", *["expired"] * len(parts)]
    assert summary.sessions == 1
    paths = {present.content["track"]["path"]: body, late.content["track"]["path"]: body}
    assert stored(bucket, settings["S3_PREFIX"]) == paths
    assert open_uploads(bucket, store_abilities, settings["S3_PREFIX"]) == []
    assert sweeper.sweep(service).lines() == []


def test_worker_notices_uploads(flow, service, bucket):
    """A worker verifies what has arrived without a word of the client, by a listing or key by key."""
    uploads = [flow.register(write_once=write_once) for write_once in (False, True)]
    for upload in uploads:
        flow.put(upload, BODY)
    notice_once(service)
    rows = service.execute("SELECT path, status FROM loadbay_track", ()).fetchall()
    assert {path: (status, bucket.get(path)) for path, status in rows} == {
        upload.content["track"]["path"]: ("uploaded", BODY) for upload in uploads
    }


def test_doctor_finds_nothing_that_the_service_needs(app, settings, bucket, store_abilities):
    """`flask doctor` passes on every store of the matrix, and leaves nothing."""
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 0, result.output
    assert stored(bucket, settings["S3_PREFIX"]) == {}
    assert open_uploads(bucket, store_abilities, settings["S3_PREFIX"]) == []


def test_record_is_what_is_measured(store_name, store_abilities):
    """docs/stores.md says of the store what is measured now: `python -m dev.record_stores` writes it again."""
    record = json.loads((RECORDS / f"{store_name}.json").read_text())
    recorded, measured = Abilities.from_json(record["abilities"]), store_abilities
    assert replace(recorded, clock_skew=None) == replace(measured, clock_skew=None)
    assert record["version"] == STORES[store_name].version()
    assert set(record["conformance"]) == {*CHECKS, "cleanup"}
