"""`flask sweep --audit`: foreign objects are listed, and removed only by a list that was looked at."""

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
    """A prefix of its own, so that an audit sees only this test's objects."""
    return {**settings, "S3_PREFIX": f"{uuid4()}/"}


@pytest.fixture
def foreign(bucket: Any, settings: dict[str, Any]) -> list[str]:
    """Keys of objects that the database does not know, some of them in the shape of its own."""
    index, prefix = new_uuid7_and_index()[1], settings["S3_PREFIX"]
    names = ["notes.txt", "a b+c&ä.bin", f"{uuid4()}/{index}/a.wav", f"incoming/{'A' * 22}/{index}.0"]
    keys = [f"{prefix}{name}" for name in names]
    for key in keys:
        bucket.s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    return sorted(keys)


def audit(app: Any, *options: str, status: int = 0) -> str:
    """Run the command, and return what it prints to stdout."""
    result = app.test_cli_runner().invoke(args=["sweep", "--audit", *options])
    assert result.exit_code == status, result.output
    return str(result.stdout)


def listed(app: Any) -> list[dict[str, Any]]:
    """The objects that the audit lists."""
    return [json.loads(line) for line in audit(app, "--json").splitlines()]


def test_lists_what_no_row_knows(app, client, bucket, foreign):
    """Files, covers, pending uploads and recorded removals are known; the rest is listed with size and time."""
    session_id = new_session(client)["upload_session_id"]
    done, pending = new_track(client, session_id, "a.wav"), new_track(client, session_id, "b.wav")
    put(done["track_upload"], wav())
    post_cover(done["track_cover_upload"], png(), "image/png")
    complete(client, session_id, done)
    put(pending["track_upload"], wav())
    found = listed(app)
    assert [item["key"] for item in found] == foreign
    assert [item["size"] for item in found] == [len(key.encode()) for key in foreign]
    assert all(item["last_modified"].startswith("20") and item["etag"] for item in found)
    table = audit(app)
    assert len(table.splitlines()) == 1 + len(foreign)
    assert all(key in table for key in foreign)


def test_sweeps_and_audits_remove_nothing(app, bucket, foreign, settings):
    """Neither a sweep nor an audit removes what no row knows, also with a new database."""
    for _ in range(2):
        app.test_cli_runner().invoke(args=["sweep"])
        audit(app)
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == foreign


def test_fresh_database_knows_nothing_and_removes_nothing(app, client, bucket, settings, tmp_path):
    """With a new database all files are unknown, and stay."""
    session_id = new_session(client)["upload_session_id"]
    made = new_track(client, session_id, "a.wav")
    put(made["track_upload"], wav())
    path = complete(client, session_id, made)["path"]
    app.test_cli_runner().invoke(args=["sweep"])
    fresh = create_app({**settings, "DATABASE_URL": f"sqlite:///{tmp_path}/fresh.db"})
    fresh.test_cli_runner().invoke(args=["sweep"])
    assert [item["key"] for item in listed(fresh)] == bucket.keys(settings["S3_PREFIX"]) == [path]


def test_deletes_by_list_alone(app, bucket, foreign, settings, tmp_path):
    """Of a list, what is unchanged is deleted; what is not in the list, or has changed, is kept."""
    path = tmp_path / "unknown.jsonl"
    lines = audit(app, "--json").splitlines()
    kept, changed, *deleted = foreign
    path.write_text("\n".join(line for line in lines if json.loads(line)["key"] != kept))
    bucket.s3.put_object(Bucket=BUCKET, Key=changed, Body=b"changed meanwhile")
    assert audit(app, "--delete", str(path)) == f"Deleted {len(deleted)} objects, kept 1.\n"
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == sorted([kept, changed])
    assert audit(app, "--delete", str(path)) == f"Deleted 0 objects, kept {len(deleted) + 1}.\n"


def test_keeps_what_has_become_known(app, client, bucket, settings, tmp_path):
    """A key that a row knows is kept, though the list names it."""
    session_id = new_session(client)["upload_session_id"]
    made = new_track(client, session_id, "a.wav")
    put(made["track_upload"], wav())
    track = complete(client, session_id, made)
    head = bucket.head(track["path"])
    line = {"key": track["path"], "size": len(wav()), "etag": head["ETag"].strip('"'), "last_modified": None}
    path = tmp_path / "unknown.jsonl"
    path.write_text(json.dumps(line))
    assert audit(app, "--delete", str(path)) == "Deleted 0 objects, kept 1.\n"
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[]", "{}", '{"key": "elsewhere/a", "size": 1, "etag": "x", "last_modified": null}',
        '{"key": "PREFIXa", "size": "1", "etag": "x", "last_modified": null}',
        '{"key": "PREFIXa", "size": 1, "etag": "", "last_modified": null}',
    ],
)  # fmt: skip
def test_rejects_other_lists(app, bucket, foreign, settings, tmp_path, line):
    """A list that is not the audit's own is an error, and nothing is deleted."""
    path = tmp_path / "unknown.jsonl"
    path.write_text(f"{listed_line(app)}\n{line.replace('PREFIX', settings['S3_PREFIX'])}\n")
    result = app.test_cli_runner().invoke(args=["sweep", "--audit", "--delete", str(path)])
    assert result.exit_code == 1
    assert "Line 2 must be" in result.output
    assert sorted(bucket.keys(settings["S3_PREFIX"])) == foreign


def listed_line(app: Any) -> str:
    """The first line of the list."""
    return audit(app, "--json").splitlines()[0]


def test_options_that_do_not_combine(app, tmp_path: Path):
    """Options that make no sense together are usage errors."""
    path = tmp_path / "list"
    path.write_text("")
    runner = app.test_cli_runner()
    for options in (["--json"], ["--delete", str(path)], ["--audit", "--dry-run"]):
        assert runner.invoke(args=["sweep", *options]).exit_code == 2


def test_reports_an_outage(app, service, monkeypatch):
    """Without a store the command fails with its message."""

    def unreachable(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(service.bucket, "list_page", unreachable)
    audit(app, status=1)
