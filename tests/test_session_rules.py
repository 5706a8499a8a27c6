"""Rules in the API: of a session, as a key's default, at registration, at verification and in events."""

from __future__ import annotations

import json

import pytest

from storage.uploads.covers import NOT_A_PICTURE
from support.api import (
    COLLECTION,
    assert_error,
    bearer,
    complete,
    create_key,
    new_session,
    new_track,
    service_of,
    track_url,
)
from support.database import query
from support.rule_cases import RULE_CASES
from support.sample_files import HTML, aiff, flac, mp3, png, wav
from support.store import post_cover, put

pytestmark = pytest.mark.sqlite

RULES = {
    "audio": {
        "containers": ["wav", "flac"], "codecs": ["pcm", "flac"], "sample_rates": [8000], "bit_depths": [16, 24],
        "channels": [1, 2], "min_duration": 0.01, "max_duration": 600, "max_file_size": 10_000_000,
    },
    "cover": {"types": ["image/png"], "square": True, "min_side": 3, "max_side": 10},
}  # fmt: skip
INVALID = [
    ({"audios": {}}, "rules.audios: is no rule; known are: audio, cover."),
    ({"audio": {"sample_rate": [44_100]}}, "rules.audio.sample_rate: is no rule; known are: containers,"),
    ({"audio": []}, "rules.audio: must be an object."),
    ([], "rules: must be an object."),
    (
        {"audio": {"containers": "wav"}},
        "rules.audio.containers: must be a list of 1 to 16 items; null allows anything.",
    ),
    ({"audio": {"containers": []}}, "rules.audio.containers: must be a list of 1 to 16 items"),
    ({"audio": {"containers": ["wave"]}}, "rules.audio.containers.0: must be one of: aac,"),
    ({"audio": {"containers": ["wav", "wav"]}}, "rules.audio.containers: must not have an item twice."),
    ({"audio": {"containers": [1]}}, "rules.audio.containers.0: must be a string."),
    ({"audio": {"codecs": ["wav"]}}, "rules.audio.codecs.0: must be one of: aac,"),
    ({"audio": {"sample_rates": ["44100"]}}, "rules.audio.sample_rates.0: must be an integer."),
    ({"audio": {"sample_rates": [44.1]}}, "rules.audio.sample_rates.0: must be an integer."),
    ({"audio": {"sample_rates": [0]}}, "rules.audio.sample_rates.0: must be from 1 to 100000000."),
    ({"audio": {"sample_rates": list(range(1, 18))}}, "rules.audio.sample_rates: must be a list of 1 to 16 items"),
    ({"audio": {"bit_depths": [65]}}, "rules.audio.bit_depths.0: must be from 1 to 64."),
    ({"audio": {"channels": [None]}}, "rules.audio.channels.0: must not be null."),
    ({"audio": {"min_duration": -1}}, "rules.audio.min_duration: must be a number of seconds above 0"),
    ({"audio": {"max_duration": "1"}}, "rules.audio.max_duration: must be a number of seconds above 0"),
    ({"audio": {"max_duration": True}}, "rules.audio.max_duration: must be a number of seconds above 0"),
    ({"audio": {"min_duration": 2, "max_duration": 1}}, "rules.audio.min_duration: must not exceed max_duration."),
    ({"audio": {"max_file_size": 0}}, "rules.audio.max_file_size: must be from 1 to"),
    ({"cover": {"types": ["image/svg+xml"]}}, "rules.cover.types.0: must be one of: image/avif,"),
    ({"cover": {"square": 1}}, "rules.cover.square: must be true or false."),
    ({"cover": {"min_side": 5, "max_side": 4}}, "rules.cover.min_side: must not exceed max_side."),
]
ANSWERED_AS = [
    (None, None),
    ({}, None),
    ({"audio": {}, "cover": None}, None),
    ({"audio": {"channels": None, "codecs": ["pcm"]}}, {"audio": {"codecs": ["pcm"]}}),
    ({"audio": {"min_duration": 30.0, "max_duration": 90.5}}, {"audio": {"min_duration": 30, "max_duration": 90.5}}),
    (RULES, RULES),
]


# --- A session's rules ---


@pytest.mark.parametrize(("rules", "answer"), ANSWERED_AS)
def test_rules_are_in_every_response_about_the_session(client, rules, answer):
    """Rules are in the responses of creation, read, list and close, without those that are null."""
    created = new_session(client, rules=rules)
    assert created["upload_session"]["rules"] == answer
    session_id = created["upload_session_id"]
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["rules"] == answer
    assert client.post(f"/v1/upload_session/{session_id}/close").json["upload_session"]["rules"] == answer


def test_session_created_with_a_track_has_its_rules(client):
    """A session that is created with its first track has its rules in the response, too."""
    created = new_session(client, rules=RULES, track={"file_name": "a.wav"})
    assert created["upload_session"]["rules"] == RULES
    assert "track_upload" in created


@pytest.mark.parametrize(("rules", "message"), INVALID)
def test_invalid_rules_are_refused_by_name(client, rules, message):
    """A rule that is unknown, of another type or out of range is refused, by its name."""
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "rules": rules})
    assert_error(response, 400, "invalid_request", message)


def test_all_errors_in_rules_are_reported(client):
    """Errors of several rules are in one message."""
    rules = {"audio": {"channels": [0], "min_duration": "x"}, "cover": {"square": "yes"}}
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "rules": rules})
    names = ("rules.audio.channels.0:", "rules.audio.min_duration:", "rules.cover.square:")
    assert_error(response, 400, "invalid_request", *names)


# --- A key's default ---


@pytest.mark.parametrize("as_file", [True, False], ids=["a file", "JSON"])
def test_key_has_default_rules_for_its_sessions(app, client, tmp_path, as_file):
    """The rules of `flask create-key --rules` are those of the sessions that the key opens."""
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    key = create_key(app, "--rules", str(path) if as_file else json.dumps(RULES))
    created = client.post("/v1/upload_session", json={"collection_id": COLLECTION}, headers=bearer(key)).json
    assert created["upload_session"]["rules"] == RULES
    assert "audio,cover" in app.test_cli_runner().invoke(args=["list-keys"]).output


def test_full_key_may_replace_its_default(app, client):
    """A request with a full key may replace the key's rules, also by none, but is not merged with them."""
    key = create_key(app, "--rules", json.dumps(RULES))
    for rules, answer in (({"audio": {"channels": [2]}}, {"audio": {"channels": [2]}}), ({}, None), (None, RULES)):
        payload = {"collection_id": COLLECTION, "rules": rules}
        created = client.post("/v1/upload_session", json=payload, headers=bearer(key)).json
        assert created["upload_session"]["rules"] == answer


def test_uploader_cannot_change_the_rules_of_its_key(app, client):
    """A request with an uploader's key cannot change the key's rules, but may set some where the key has none."""
    options = ("--role", "uploader", "--collection", COLLECTION)
    bound, free = create_key(app, *options, "--rules", json.dumps(RULES)), create_key(app, *options)
    for rules in ({}, {"audio": {}}, RULES):
        response = client.post("/v1/upload_session", json={"rules": rules}, headers=bearer(bound))
        assert_error(response, 403, "forbidden", "rules: are set by this API key")
    assert client.post("/v1/upload_session", json={}, headers=bearer(bound)).json["upload_session"]["rules"] == RULES
    created = client.post("/v1/upload_session", json={"rules": RULES}, headers=bearer(free)).json
    assert created["upload_session"]["rules"] == RULES


def test_repeated_request_of_a_bound_uploader_is_answered(app, client):
    """A request that is repeated with its Idempotency-Key gets the same session, with the key's rules."""
    key = create_key(app, "--role", "uploader", "--collection", COLLECTION, "--rules", json.dumps(RULES))
    headers = {**bearer(key), "Idempotency-Key": "once"}
    first, second = (client.post("/v1/upload_session", json={}, headers=headers).json for _ in range(2))
    assert first["upload_session_id"] == second["upload_session_id"]
    assert first["upload_session"]["rules"] == second["upload_session"]["rules"] == RULES


def test_api_creates_an_uploader_key_with_rules(app, client):
    """POST /v1/api_key takes rules, returns them, and validates them as a session does."""
    headers = bearer(create_key(app))
    payload = {"name": "our app", "collection_id": COLLECTION, "rules": RULES}
    created = client.post("/v1/api_key", json=payload, headers=headers).json
    assert created["api_key"]["rules"] == RULES
    session = client.post("/v1/upload_session", json={}, headers=bearer(created["key"])).json["upload_session"]
    assert session["rules"] == RULES
    without = client.post("/v1/api_key", json={**payload, "rules": {}}, headers=headers).json
    assert without["api_key"]["rules"] is None
    response = client.post("/v1/api_key", json={**payload, "rules": {"video": {}}}, headers=headers)
    assert_error(response, 400, "invalid_request", "rules.video: is no rule")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("no/such/file.json", "cannot be read: No such file or directory."),
        ("{", "is not valid JSON:"),
        ('{"audio": {"channels": [0]}}', "audio.channels.0: must be from 1 to 1024."),
    ],
)
def test_command_refuses_invalid_rules(app, rules, message):
    """`flask create-key` refuses a file that it cannot read and rules that are invalid."""
    result = app.test_cli_runner().invoke(args=["create-key", "--name", "a test", "--rules", rules])
    assert result.exit_code == 2
    assert message in result.output


# --- Registration ---


def test_declared_size_above_the_largest_is_refused(client):
    """A declared size above the largest of the rules is refused at registration, and no track is left."""
    session_id = new_session(client, rules={"audio": {"max_file_size": 1000}})["upload_session_id"]
    url, message = f"/v1/upload/{session_id}/track", "file_size: must be at most 1000 bytes in this upload session."
    response = client.post(url, json={"file_name": "a.wav", "file_size": 1001})
    assert_error(response, 400, "invalid_request", message)
    multipart = {"file_name": "a.wav", "file_size": 1001, "multipart": True}
    assert_error(client.post(url, json=multipart), 400, "invalid_request", message)
    new_track(client, session_id, file_size=1000)
    new_track(client, session_id)
    assert client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["track_count"] == 2


def test_batch_names_each_item_that_is_too_large(client):
    """A batch with items above the largest size is refused as a whole, with the index of each."""
    session_id = new_session(client, rules={"audio": {"max_file_size": 1000}})["upload_session_id"]
    sizes = (1000, 1001, None, 5000)
    batch = [{"file_name": "a.wav", "file_size": size} for size in sizes]
    response = client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": batch})
    assert_error(response, 400, "invalid_request", "tracks: 2 of 4 are invalid; none was registered.")
    message = "file_size: must be at most 1000 bytes in this upload session."
    assert response.json["errors"] == [
        {"index": index, "code": "invalid_request", "message": message} for index in (1, 3)
    ]
    valid = [item for item in batch if (item["file_size"] or 0) <= 1000]
    assert client.post(f"/v1/upload/{session_id}/tracks", json={"tracks": valid}).json["count"] == 2


def test_first_track_that_is_too_large_opens_no_session(client, app):
    """A session and a first track above its largest size are refused together."""
    payload = {
        "collection_id": COLLECTION,
        "rules": {"audio": {"max_file_size": 10}},
        "track": {"file_name": "a.wav", "file_size": 11},
    }
    before = query(app, "SELECT count(*) FROM loadbay_upload_session")
    assert_error(client.post("/v1/upload_session", json=payload), 400, "invalid_request", "file_size: must be at most")
    assert query(app, "SELECT count(*) FROM loadbay_upload_session") == before


# --- Verification ---


def upload(client, rules, body, file_name="a.wav", **payload):
    """Upload a file in a session with these rules, and return the verified track."""
    session_id = new_session(client, rules=rules)["upload_session_id"]
    created = new_track(client, session_id, file_name, **payload)
    assert put(created["track_upload"], body).status_code == 200
    return complete(client, session_id, created)


def test_file_without_declared_size_is_measured(client, bucket):
    """A file that is larger than the rules allow fails at its verification, and is removed."""
    track = upload(client, {"audio": {"max_file_size": 100}}, wav())
    assert (track["status"], track["failure_code"]) == ("failed", "rule_file_size")
    assert track["failure"] == f"The file has {len(wav())} bytes; this session accepts at most 100 bytes."
    assert bucket.get(track["path"]) is None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.wav", wav(1, rate=44_100, channels=2, bits=24)),
        ("a.flac", flac(1, 44_100, 2, 16)),
        ("a.aiff", aiff(1, 44_100, 2, 24)),
        ("a.mp3", mp3(1, 44_100)),
    ],
)
@pytest.mark.parametrize("options", [{}, {"write_once": True}], ids=["staged", "write once"])
def test_file_that_keeps_every_rule_is_uploaded(client, name, body, options):
    """Real files that keep all rules at once are uploaded."""
    rules = {
        "containers": ["wav", "flac", "aiff", "mp3"], "codecs": ["pcm", "flac", "mp3"], "sample_rates": [44_100],
        "bit_depths": [16, 24], "channels": [2], "min_duration": 0.9, "max_duration": 1.1, "max_file_size": 1_000_000,
    }  # fmt: skip
    track = upload(client, {"audio": rules}, body, name, **options)
    assert (track["status"], track["failure"], track["failure_code"]) == ("uploaded", None, None)


@pytest.mark.parametrize(
    ("rules", "name", "body", "code", "failure"),
    [
        (
            {"containers": ["wav", "flac"]}, "a.mp3", mp3(),
            "rule_container", "The file is MP3; this session accepts WAV or FLAC.",
        ),
        (
            {"containers": ["wav"]}, "a.wav", flac(),
            "rule_container", "The file is FLAC; this session accepts WAV.",
        ),
        (
            {"containers": ["wav"]}, "unknown.bin", b"neither this nor that",
            "rule_container", "The kind of file cannot be read; this session accepts WAV.",
        ),
        (
            {"codecs": ["flac", "alac"]}, "a.wav", wav(),
            "rule_codec", "The codec is PCM; this session accepts FLAC or ALAC.",
        ),
        (
            {"sample_rates": [44_100]}, "a.wav", wav(rate=48_000),
            "rule_sample_rate", "The sample rate is 48000 Hz; this session accepts 44100 Hz.",
        ),
        (
            {"sample_rates": [44_100, 96_000]}, "a.mp3", mp3(1, 48_000),
            "rule_sample_rate", "The sample rate is 48000 Hz; this session accepts 44100 or 96000 Hz.",
        ),
        (
            {"sample_rates": [44_100]}, "unknown.bin", b"neither this nor that",
            "rule_sample_rate", "The sample rate cannot be read; this session accepts 44100 Hz.",
        ),
        (
            {"bit_depths": [24]}, "a.flac", flac(1, bits=16),
            "rule_bit_depth", "The bit depth is 16 bits; this session accepts 24 bits.",
        ),
        (
            {"bit_depths": [16, 24]}, "a.mp3", mp3(),
            "rule_bit_depth", "MP3 has no bit depth; this session accepts 16 or 24 bits.",
        ),
        (
            {"channels": [2]}, "a.wav", wav(),
            "rule_channels", "The number of channels is 1; this session accepts 2.",
        ),
        (
            {"min_duration": 30}, "a.wav", wav(2),
            "rule_duration", "The duration is 2 seconds; this session accepts at least 30 seconds.",
        ),
        (
            {"max_duration": 1}, "a.aiff", aiff(2.5),
            "rule_duration", "The duration is 2.5 seconds; this session accepts at most 1 second.",
        ),
    ],
)  # fmt: skip
def test_file_that_breaks_a_rule_fails(client, bucket, rules, name, body, code, failure):
    """A real file that breaks a rule fails with its sentence and code, and is not left in the store."""
    track = upload(client, {"audio": rules}, body, name)
    assert (track["status"], track["failure_code"], track["failure"]) == ("failed", code, failure)
    assert bucket.get(track["path"]) is None


@pytest.mark.parametrize("case", RULE_CASES)
def test_service_decides_on_every_case_of_the_table(client, case):
    """The service fails each file of the table that breaks a rule, with its code, and accepts the others."""
    session_id = new_session(client, rules={"audio": case.rules})["upload_session_id"]
    created = new_track(client, session_id, case.name)
    put(created["track_upload"], case.body)
    track = complete(client, session_id, created)
    assert (track["status"], track["failure_code"]) == ("failed" if case.code else "uploaded", case.code)


def test_multipart_upload_is_compared_once_it_is_joined(app, client):
    """A file that was uploaded in parts fails, too, and the removal of what its parts were joined to is recorded."""
    session_id = new_session(client, rules={"audio": {"sample_rates": [44_100]}})["upload_session_id"]
    body = wav(1, rate=48_000)
    created = new_track(client, session_id, "a.wav", file_size=len(body), multipart=True)
    for part in created["track_multipart_upload"]["parts"]:
        assert put(part, body).status_code == 200
    track = complete(client, session_id, created)
    assert (track["status"], track["failure_code"]) == ("failed", "rule_sample_rate")
    assert (track["path"],) in query(app, "SELECT key FROM loadbay_removal WHERE upload_id IS NULL")


def test_batch_has_a_result_for_each_file(client):
    """Files that are verified together are compared each for itself."""
    session_id = new_session(client, rules={"audio": {"channels": [2]}})["upload_session_id"]
    for channels in (1, 2):
        created = new_track(client, session_id, f"{channels}.wav")
        put(created["track_upload"], wav(1, rate=44_100, channels=channels))
    results = client.post(f"/v1/upload/{session_id}/complete", json={}).json["tracks"]
    assert [(item["status"], item["track"]["failure_code"]) for item in results] == [
        ("failed", "rule_channels"), ("uploaded", None),
    ]  # fmt: skip


def test_renewed_track_accepts_another_file(client):
    """A track that failed by a rule can be renewed, and then accepts a file that keeps it."""
    session_id = new_session(client, rules={"audio": {"containers": ["wav"]}})["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], mp3())
    assert complete(client, session_id, created)["failure_code"] == "rule_container"
    renewed = client.post(track_url(session_id, created, "renew")).json
    put(renewed["track_upload"], wav())
    track = complete(client, session_id, created)
    assert (track["status"], track["failure_code"]) == ("uploaded", None)


@pytest.mark.parametrize(("body", "code"), [(HTML, "not_audio"), (b"", "empty_file")])
def test_other_failures_have_codes(client, body, code):
    """Failures that are not about rules have codes, too, and a renewal clears them."""
    session_id = new_session(client)["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], body)
    track = complete(client, session_id, created)
    assert (track["status"], track["failure_code"]) == ("failed", code)
    renewed = client.post(track_url(session_id, created, "renew")).json["track"]
    assert (renewed["failure"], renewed["failure_code"]) == (None, None)


@pytest.mark.parametrize(
    ("rules", "image", "code", "failure"),
    [
        (RULES["cover"], png(3, 3), None, None),
        ({"types": ["image/jpeg"]}, png(), "rule_type", "The cover is image/png; this session accepts image/jpeg."),
        (
            {"square": True},
            png(),
            "rule_square",
            "The cover has 3 x 2 pixels; this session accepts only square covers.",
        ),
        ({"min_side": 3}, png(), "rule_dimensions", "The cover has 3 x 2 pixels; this session accepts at least 3 x 3."),
        ({"max_side": 2}, png(), "rule_dimensions", "The cover has 3 x 2 pixels; this session accepts at most 2 x 2."),
        ({"square": True}, HTML, "not_an_image", NOT_A_PICTURE),
    ],
)
def test_cover_is_compared_with_the_rules(client, rules, image, code, failure):
    """A cover that breaks a rule fails with its sentence and code; its track does not, and another cover may follow."""
    session_id = new_session(client, rules={"cover": rules})["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    post_cover(created["track_cover_upload"], image)
    track = complete(client, session_id, created)
    assert track["status"] == "uploaded"
    cover = track["cover"]
    assert (cover["failure_code"], cover["failure"]) == (code, failure)
    assert cover["status"] == ("failed" if code else "uploaded")


def test_cover_that_keeps_the_rules_replaces_one_that_does_not(client):
    """A good cover after a bad one is uploaded, and the failure is gone."""
    session_id = new_session(client, rules={"cover": {"square": True}})["upload_session_id"]
    created = new_track(client, session_id, "a.wav")
    put(created["track_upload"], wav())
    for image, status in ((png(3, 2), "failed"), (png(3, 3), "uploaded")):
        post_cover(created["track_cover_upload"], image)
        assert complete(client, session_id, created)["cover"]["status"] == status
    cover = client.get(track_url(session_id, created)).json["track"]["cover"]
    assert (cover["failure"], cover["failure_code"]) == (None, None)


# --- Events ---


def test_events_have_rules_and_codes(app, client):
    """track.failed has the failure's code, and upload_session.completed the session's rules."""
    result = app.test_cli_runner().invoke(args=["webhooks", "add", "https://example.com/hook"])
    assert result.exit_code == 0, result.output
    track = upload(client, {"audio": {"max_file_size": 100}}, wav())
    client.post(f"/v1/upload_session/{track['upload_session_id']}/close")
    new_session_id = new_session(client)["upload_session_id"]
    client.post(f"/v1/upload_session/{new_session_id}/close")
    rows = query(app, "SELECT type, data FROM loadbay_webhook_delivery ORDER BY seq")
    events = [(kind, json.loads(data)) for kind, data in rows]
    assert [kind for kind, _ in events] == ["track.failed", "upload_session.completed", "upload_session.completed"]
    assert events[0][1]["failure_code"] == "rule_file_size"
    assert events[1][1]["rules"] == {"audio": {"max_file_size": 100}}
    assert events[2][1]["rules"] is None


# --- Cost ---


def statements_of(service, monkeypatch, call):
    """Return the statements that a call sends to the database."""
    statements, execute = [], service.database.execute_sql

    def record(statement, *arguments, **options):
        statements.append(statement)
        return execute(statement, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(service.database, "execute_sql", record)
        call()
    return statements


def test_rules_cost_no_statements(app, client, monkeypatch):
    """Opening a session and registering a track send the same statements with rules as without."""
    service = service_of(app)
    free, bound = new_session(client), new_session(client, rules=RULES)
    # The id of the deployment is read once.
    new_track(client, free["upload_session_id"])
    opened = [
        statements_of(service, monkeypatch, lambda rules=rules: new_session(client, rules=rules))
        for rules in (None, RULES)
    ]
    registered = [
        statements_of(service, monkeypatch, lambda id=session["upload_session_id"]: new_track(client, id, file_size=9))
        for session in (free, bound)
    ]
    assert opened[0] == opened[1]
    assert registered[0] == registered[1]
