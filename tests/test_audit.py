"""`flask sweep --audit`: lists foreign objects, and deletes those in a list that a person has reviewed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app import create_app
from storage.errors import StorageUnavailable
from storage.ids import new_uuid7_and_index
from support.api import complete, new_session, new_track
from support.sample_files import png, wav
from support.store import BUCKET, post_cover, put


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a prefix of the test's own, so that an audit sees no other objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def foreign(bucket: Any, settings: dict[str, Any]) -> list[str]:
    """Keys of objects that the database does not know, some of them in its own format."""
    index, prefix = new_uuid7_and_index()[1], settings["S3_PREFIX"]
    names = ["notes.txt", "a b+c&ä.bin", f"{uuid4()}/{index}/a.wav", f"incoming/{'A' * 22}/{index}.0"]
    keys = [f"{prefix}{name}" for name in names]
    for key in keys:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    return sorted(keys)


def run_audit(app: Any, *options: str, status: int = 0) -> str:
    """Run the command, and return its stdout."""
    result = app.test_cli_runner().invoke(args=["sweep", "--audit", *options])
    assert result.exit_code == status, result.output
    return str(result.stdout)


def list_unknown(app: Any) -> list[dict[str, Any]]:
    """Return the objects that the audit lists."""
    return [json.loads(line) for line in run_audit(app, "--json").splitlines()]


def test_lists_unknown_objects(app, client, bucket, foreign):
    """Files, covers, pending uploads and recorded removals are known; the rest is listed with size and time."""
    session_id = new_session(client)["upload_session_id"]
    uploaded, pending = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    put(uploaded["track_upload"], wav())
    post_cover(uploaded["track_cover_upload"], png(), "image/png")
    complete(client, session_id, uploaded)
    put(pending["track_upload"], wav())
    unknown = list_unknown(app)
    assert [item["key"] for item in unknown] == foreign
    assert [item["size"] for item in unknown] == [len(key.encode()) for key in foreign]
    assert all(item["last_modified"].startswith("20") and item["etag"] for item in unknown)
    table = run_audit(app)
    assert len(table.splitlines()) == 1 + len(foreign)
    assert all(key in table for key in foreign)


def test_sweep_and_audit_remove_no_unknown_objects(app, bucket, foreign, settings):
    """Neither a sweep nor an audit removes unknown objects."""
    for _ in range(2):
        app.test_cli_runner().invoke(args=["sweep"])
        run_audit(app)
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == foreign


def test_new_database_removes_nothing(app, client, bucket, settings, tmp_path):
    """With a new database all objects are unknown, and are kept."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    path = complete(client, session_id, created)["path"]
    app.test_cli_runner().invoke(args=["sweep"])
    fresh = create_app({**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/fresh.db"})
    fresh.test_cli_runner().invoke(args=["sweep"])
    assert [item["key"] for item in list_unknown(fresh)] == bucket.keys(settings["S3_PREFIX"]) == [path]


def test_deletes_unchanged_objects_of_the_list(app, bucket, foreign, settings, tmp_path):
    """Listed objects are deleted if they are unchanged; all others are kept."""
    path = tmp_path / "unknown.jsonl"
    lines = run_audit(app, "--json").splitlines()
    unlisted, changed, *deleted = foreign
    path.write_text("\n".join(line for line in lines if json.loads(line)["key"] != unlisted))
    bucket.s3.put_object(Bucket=BUCKET, Key=changed, Body=b"changed meanwhile")
    assert run_audit(app, "--delete", str(path)) == f"Deleted {len(deleted)} objects, kept 1.\n"
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([unlisted, changed])
    assert run_audit(app, "--delete", str(path)) == f"Deleted 0 objects, kept {len(deleted) + 1}.\n"


def test_keeps_known_objects(app, client, bucket, settings, tmp_path):
    """An object that a row knows is kept, even if it is listed."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    track = complete(client, session_id, created)
    head = bucket.head(track["path"])
    line = {"key": track["path"], "size": len(wav()), "etag": head["ETag"].strip('"'), "last_modified": None}
    path = tmp_path / "unknown.jsonl"
    path.write_text(json.dumps(line))
    assert run_audit(app, "--delete", str(path)) == "Deleted 0 objects, kept 1.\n"
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[]", "{}", '{"key": "other/a", "size": 1, "etag": "x", "last_modified": null}',
        '{"key": "PREFIXa", "size": "1", "etag": "x", "last_modified": null}',
        '{"key": "PREFIXa", "size": 1, "etag": "", "last_modified": null}',
    ],
)  # fmt: skip
def test_rejects_other_lists(app, bucket, foreign, settings, tmp_path, line):
    """A list of another format is an error, and nothing is deleted."""
    path = tmp_path / "unknown.jsonl"
    path.write_text(f"{first_line(app)}\n{line.replace('PREFIX', settings['S3_PREFIX'])}\n")
    result = app.test_cli_runner().invoke(args=["sweep", "--audit", "--delete", str(path)])
    assert result.exit_code == 1
    assert "Line 2 must be" in result.output
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == foreign


def first_line(app: Any) -> str:
    """Return the first line of the list."""
    return run_audit(app, "--json").splitlines()[0]


def test_rejects_conflicting_options(app, tmp_path: Path):
    """Conflicting options are usage errors."""
    path = tmp_path / "list"
    path.write_text("")
    runner = app.test_cli_runner()
    for options in (["--json"], ["--delete", str(path)], ["--audit", "--dry-run"]):
        assert runner.invoke(args=["sweep", *options]).exit_code == 2


def test_reports_an_outage(app, service, monkeypatch):
    """Without the store, the command fails with its message."""

    def unreachable(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(service.bucket, "list_pages", unreachable)
    run_audit(app, status=1)


# --- A new database before a bucket in use ----------------------------------------------------------------------------


def test_new_database_before_a_bucket_in_use_is_told(app, service, bucket, settings, foreign, caplog):
    """`prepare` logs that the bucket has objects which a database without a session cannot know; so does doctor."""
    runner = app.test_cli_runner()
    assert runner.invoke(args=["prepare"]).exit_code == 0
    assert f"objects below '{settings['S3_PREFIX']}'" in caplog.text
    assert "copy-database" in caplog.text
    output = runner.invoke(args=["doctor", "--json"]).output
    (check,) = [json.loads(line) for line in output.splitlines() if "database of the bucket" in line]
    assert (check["outcome"], check["required"]) == ("fail", False)
    assert "DATABASE_URL" in check["advice"]


def test_database_in_use_is_not_told(app, client, service, bucket, settings, caplog):
    """No line is logged for an empty bucket, for what is only staged or measured, and once there is a session."""
    prefix, runner = settings["S3_PREFIX"], app.test_cli_runner()
    for key in (f"{prefix}incoming/{service.deployment_id}/x", f"{prefix}.doctor/x"):
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    runner.invoke(args=["prepare"])
    bucket.s3.put_object(Bucket=BUCKET, Key=f"{prefix}a.wav", Body=b"x")
    new_session(client)
    runner.invoke(args=["prepare"])
    assert "no upload session" not in caplog.text
