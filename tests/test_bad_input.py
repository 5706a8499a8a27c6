"""Input that is wrong in every way there is: one shape of error, the field by name, and nothing kept."""

import json
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from support.api import COLLECTION, assert_error, new_session

DEEP = 100_000
KEY = "a-key-that-is-long-enough-for-a-setting"
DIGEST = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.fixture(params=["session", "track"])
def endpoint(request, client):
    """Each endpoint that takes JSON: its path, and a body that it takes."""
    if request.param == "session":
        return "/v1/upload_session", {"collection_id": COLLECTION}
    session_id = new_session(client)["upload_session_id"]
    return f"/v1/upload/{session_id}/track", {"file_name": "a.mp3"}


@pytest.fixture
def settings(settings):
    """The settings, with a prefix of the test's own for its objects."""
    return {**settings, "S3_PREFIX": f"bad-input/{uuid4()}/"}


@pytest.fixture
def refuse(client, count_rows, bucket, settings):
    """Send a body and check that it was refused in the one shape, with no row and no object left behind."""

    def send(path, body, *expected, content_type="application/json"):
        before = count_rows()
        response = client.post(path, data=body, content_type=content_type)
        assert_error(response, *expected)
        assert response.content_type == "application/json"
        assert count_rows() == before
        return response

    yield send
    assert bucket.keys(settings["S3_PREFIX"]) == []


def with_value(body, name, raw):
    """The JSON text of `body` with `raw`, a piece of JSON or of what is none, as the value of `name`."""
    return json.dumps({**body, name: "RAW"}).replace('"RAW"', raw).encode()


# --- Bodies ---


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": 1} x',
        b'{"a": 01}',
        b'{"a": 0x1}',
        b'{"a": "\n"}',
        b'{"a": "\\x41"}',
        b'{"a": "\\u12"}',
        b"\x00",
        b" ",
        b'\xef\xbb\xbf{"file_name": "a.mp3"}',
        b'{"file_name": "\xff\xfe.mp3"}',
        b'{"file_name": "\xed\xa0\x80.mp3"}',
        b'{"file_name": "\xc0\xaf"}',
        '{"file_name": "a.mp3"}'.encode("utf-16"),
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * 40_000,
        b'{"metadata":' + b"[" * DEEP + b"]" * DEEP + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_not_json(refuse, endpoint, body):
    """What is no JSON in UTF-8 is refused, and the sentence says so."""
    refuse(endpoint[0], body, 400, "invalid_request", "not valid JSON")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b"[{}]", b"1.5"])
def test_not_an_object(refuse, endpoint, body):
    """JSON that is no object is refused."""
    refuse(endpoint[0], body, 400, "invalid_request", "object")


def test_no_body(refuse, endpoint):
    """No body is refused, with or without a content type."""
    refuse(endpoint[0], b"", 400, "invalid_request", "no body")
    refuse(endpoint[0], b"", 400, "invalid_request", "no body", content_type=None)


def test_empty_object(refuse, endpoint):
    """What is required is asked for by name."""
    path, body = endpoint
    refuse(path, b"{}", 400, "invalid_request", *body)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", "json"],
)
def test_wrong_content_type(refuse, endpoint, content_type):
    """A body that does not call itself JSON is refused, so that no browser sends one without asking."""
    path, body = endpoint
    refuse(path, json.dumps(body), 415, "not_json", "application/json", content_type=content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.a+json"]
)
def test_ways_to_say_json(client, endpoint, content_type):
    """A parameter, capitals or a +json type are JSON as well."""
    path, body = endpoint
    assert client.post(path, data=json.dumps(body), content_type=content_type).status_code == 200


@pytest.mark.parametrize("size", [256 * 1024 + 1, 2**21])
def test_body_over_the_limit(refuse, endpoint, size):
    """A body over the limit is refused by its size, before it is read as JSON."""
    path, body = endpoint
    refuse(path, json.dumps(body).ljust(size), 413, "too_large")
    refuse(path, b"x" * size, 413, "too_large")


def test_body_at_the_limit(client, endpoint):
    """A body of exactly the limit is read."""
    path, body = endpoint
    assert (
        client.post(path, data=json.dumps(body).ljust(256 * 1024), content_type="application/json").status_code == 200
    )


def test_body_shorter_than_it_says(client, endpoint, count_rows):
    """A body that ends before its Content-Length is refused, even where what came is valid."""
    path, body = endpoint
    text, before = json.dumps(body), count_rows()
    response = client.post(
        path, data=text, content_type="application/json", environ_overrides={"CONTENT_LENGTH": str(len(text) + 5)}
    )
    assert_error(response, 400, "invalid_request")
    assert count_rows() == before


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999"])
def test_strange_content_length(client, endpoint, length):
    """A Content-Length that is none, or is beyond all measure, is the caller's fault."""
    path, body = endpoint
    response = client.post(
        path, data=json.dumps(body), content_type="application/json", environ_overrides={"CONTENT_LENGTH": length}
    )
    assert response.status_code in (400, 411, 413), response.text
    assert response.json["ok"] is False


# --- Values ---


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("name", ["metadata", "organization_index", "later"])
def test_numbers_that_json_has_not(refuse, endpoint, name, raw):
    """NaN, the infinities and numbers that would become them are refused, wherever they stand."""
    path, body = endpoint
    refuse(path, with_value(body, name, raw), 400, "invalid_request", "number")
    refuse(path, with_value(body, name, f'{{"a": [{raw}]}}'), 400, "invalid_request", "number")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"b": [{"c": {"d": 1, "e": 2, "d": 1}}]}', "d"),
        ('{"": 1, "": 1}', "duplicate"),
    ],
)
def test_duplicate_keys(refuse, endpoint, raw, name):
    """A key that stands twice in an object is refused by name, nested ones too."""
    path, body = endpoint
    refuse(path, with_value(body, "metadata", raw), 400, "invalid_request", "duplicate", name)


def test_duplicate_fields(refuse, endpoint):
    """A field that is given twice is refused: two readers could see two different requests."""
    path, body = endpoint
    ((name, value),) = body.items()
    twice = f"{{{json.dumps(name)}: {json.dumps(value)}, {json.dumps(name)}: {json.dumps(value)}}}"
    refuse(path, twice, 400, "invalid_request", "duplicate", name)


@pytest.mark.parametrize("text", [r"\ud800", r"a\udfff", r"\udc00\ud800", r"\ud83d.mp3", r"\u0000", r"a\u0000b"])
def test_text_that_cannot_be_kept(refuse, endpoint, text):
    """Unpaired surrogates and NUL are refused in every text, as a key, and in keys that nobody asked for."""
    path, body = endpoint
    for name in (*body, "organization_index", "later"):
        refuse(path, with_value(body, name, f'"{text}"'), 400, "invalid_request", name)
    refuse(path, with_value(body, "metadata", f'{{"a": ["{text}"]}}'), 400, "invalid_request", "metadata.a")
    refuse(path, with_value(body, "metadata", f'{{"{text}": 1}}'), 400, "invalid_request", "key")


@pytest.mark.parametrize("depth", [300, 1000, 5000, 100_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_deep_text(refuse, endpoint, depth, left, right):
    """However deep a text that is to be looked at lies, in whichever Python, the fault is the caller's."""
    path, body = endpoint
    nested = with_value(body, "later", left * depth + r'"\u00e9"' + right * depth)
    refuse(path, nested, *((400, "invalid_request", "deep") if len(nested) < 256 * 1024 else (413, "too_large")))


def test_paired_surrogates_are_text(client, endpoint):
    """An escape of two halves is one character and welcome."""
    path, body = endpoint
    response = client.post(
        path, data=with_value(body, "metadata", r'{"a": "\ud83c\udfb5"}'), content_type="application/json"
    )
    assert response.status_code == 200
    said = response.json.get("track") or response.json["upload_session"]
    assert said["metadata"] == {"a": "🎵"}


@pytest.mark.parametrize("digits", [4400, 50_000])
def test_integers_of_thousands_of_digits(refuse, endpoint, digits):
    """An integer too long for Python to read is the caller's fault."""
    path, body = endpoint
    for name in ("metadata", "file_size", "expires_in", "later"):
        refuse(path, with_value(body, name, "9" * digits), 400, "invalid_request", "digits")
        refuse(path, with_value(body, name, '{"a": -' + "9" * digits + "}"), 400, "invalid_request", "digits")


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64, 10**100, -(10**4000)])
def test_integers_beyond_64_bits(refuse, endpoint, number):
    """An integer in metadata that a database or another language could not hold is refused."""
    path, body = endpoint
    refuse(path, with_value(body, "metadata", f'{{"a": [{number}]}}'), 400, "invalid_request", "metadata", "64 bits")


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ([], "object"),
        ("text", "object"),
        (1, "object"),
        (True, "object"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {}}}}}}}}}, "deep"),
        ({"a": [[[[[[[[]]]]]]]]}, "deep"),
        ({"a": "x" * 16_384}, "16384"),
        ({"x" * 16_384: 1}, "16384"),
        ({str(n): n for n in range(3000)}, "16384"),
        ({"a": [0] * 10_000}, "16384"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_metadata(refuse, endpoint, metadata, word):
    """Metadata that is no object, too deep or too large is refused by name."""
    path, body = endpoint
    refuse(path, json.dumps({**body, "metadata": metadata}), 400, "invalid_request", "metadata", word)


WRONG_TEXTS = [1, 1.5, True, False, [], {}, ["a"], {"a": 1}]
WRONG_NUMBERS = [1.5, 5.0, "1", "", True, False, [], {}, -1, 0, 10**13, 10**30]
WRONG_IDS = [
    *WRONG_TEXTS,
    "",
    "123",
    "nonsense",
    f"{{{COLLECTION}}}",
    f"urn:uuid:{COLLECTION}",
    COLLECTION.replace("-", ""),
    COLLECTION[:-1],
    COLLECTION + "0",
    COLLECTION + "\n",
    f" {COLLECTION}",
    COLLECTION.replace("e89b", "e89g"),
    COLLECTION.replace("1", "١"),
    "../" + COLLECTION,
    "x" * 5000,
]
WRONG_TYPES = [
    *WRONG_TEXTS,
    "",
    "audio",
    "audio/",
    "/mpeg",
    "audio/mpeg/x",
    "audio/mp eg",
    "a\r\nX: y/z",
    "é/a",
    "a/" + "b" * 300,
]
WRONG_DIGESTS = [
    *WRONG_TEXTS,
    "",
    "abc",
    DIGEST[:-1],
    DIGEST + "=",
    "_" * 43 + "=",
    "0" * 64,
    DIGEST[:-4] + "\n" + DIGEST[-3:],
]
WRONG_LINES = [*WRONG_TEXTS, "x" * 256, "a\nb", "a\rb", "a\x7fb", "a\u2028b", "a\u0085b"]
WRONG_NAMES = [
    *WRONG_LINES,
    None,
    "",
    " ",
    "   ",
    "\u3000",
    "\u00a0",
    ".",
    "..",
    "...",
    ". .",
    "x" * 2000,
    "é" * 256,
    "../../etc/passwd",
    "/etc/passwd",
    "a/b.mp3",
    "a/",
    "..\\..\\boot.ini",
    "C:\\a.mp3",
    "\\\\server\\share",
    "a\tb.mp3",
    "song\u202e3pm.exe",
    "\u200fsong.mp3",
    "\u2066song\u2069.mp3",
    "\u061csong.mp3",
    "\u200b",
    "\u200b\u200d",
    "\ufeff",
]
FIELDS = {
    "/v1/upload_session": {
        "collection_id": [None, *WRONG_IDS],
        "creator_id": WRONG_IDS,
        "organization_index": WRONG_LINES,
        "metadata": [1, "a", True, [], [{}]],
        "expires_in": WRONG_NUMBERS,
        "track": [1, "a", True, [], {}, [{}]],
    },
    "track": {
        "file_name": WRONG_NAMES,
        "organization_index": WRONG_LINES,
        "metadata": [1, "a", True, [], [{}]],
        "file_size": WRONG_NUMBERS,
        "content_type": WRONG_TYPES,
        "checksum_sha256": WRONG_DIGESTS,
    },
}


@pytest.mark.parametrize("field", FIELDS["/v1/upload_session"])
def test_wrong_values_in_a_session(refuse, client, field):
    """Every wrong value of a session's field is refused with that field's name."""
    for value in FIELDS["/v1/upload_session"][field]:
        body = json.dumps({"collection_id": COLLECTION, field: value})
        refuse("/v1/upload_session", body, 400, "invalid_request", field)


@pytest.mark.parametrize("field", FIELDS["track"])
def test_wrong_values_in_a_track(refuse, client, field):
    """Every wrong value of a track's field is refused with that field's name, in a first track too."""
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/track"
    for value in FIELDS["track"][field]:
        track = {"file_name": "a.mp3", field: value}
        refuse(path, json.dumps(track), 400, "invalid_request", field)
        nested = {"collection_id": COLLECTION, "track": track}
        refuse("/v1/upload_session", json.dumps(nested), 400, "invalid_request", f"track.{field}")


def test_every_fault_is_told_at_once(refuse, client):
    """A request with several faults hears of all of them."""
    body = {"collection_id": "x", "creator_id": 1, "metadata": 2, "track": {"file_size": "1"}}
    names = ("collection_id", "creator_id", "metadata", "track.file_name", "track.file_size")
    refuse("/v1/upload_session", json.dumps(body), 400, "invalid_request", *names)


def test_nothing_is_repeated(refuse, endpoint):
    """A refusal does not send back what was sent, so that no page shows somebody else's words."""
    path, body = endpoint
    for bad in (b"<script>alert(1)</script>", json.dumps({**body, "metadata": "<script>"}).encode()):
        assert "<script>" not in refuse(path, bad, 400, "invalid_request").text


# --- Paths and methods ---


@pytest.mark.parametrize(
    "id_",
    [
        "nonsense",
        "123",
        COLLECTION[:-1],
        COLLECTION + "0",
        COLLECTION.replace("-", ""),
        f"%7B{COLLECTION}%7D",
        f"urn:uuid:{COLLECTION}",
        f"{COLLECTION}%0A",
        f"{COLLECTION}%00",
        "%00",
        "%FF%FE",
        "..%5C..",
        "'%20OR%20'1'='1",
        "x" * 5000,
        "%F0%9F%8E%B5",
    ],
    ids=lambda value: value[:24],
)
def test_ids_in_paths(client, refuse, id_):
    """An id in a path that is no UUID is refused by its name."""
    assert_error(client.get(f"/v1/upload_session/{id_}"), 400, "invalid_request", "upload_session_id")
    refuse(f"/v1/upload/{id_}/track", b'{"file_name": "a.mp3"}', 400, "invalid_request", "upload_session_id")


def test_capitals_in_paths(client):
    """An id in capitals is the same id."""
    session_id = new_session(client)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id.upper()}/track", json={"file_name": "a.mp3"})
    assert response.status_code == 200
    assert response.json["upload_session_id"] == session_id


def test_unknown_session(client, refuse):
    """A session that never was is 404 for both endpoints."""
    assert_error(client.get(f"/v1/upload_session/{COLLECTION}"), 404, "session_not_found", "upload_session_id")
    refuse(f"/v1/upload/{COLLECTION}/track", b'{"file_name": "a.mp3"}', 404, "session_not_found")


def test_expired_session(client, refuse, clock):
    """A session that is over is 410."""
    session_id = new_session(client, expires_in=60)["upload_session_id"]
    clock.forward(61)
    refuse(f"/v1/upload/{session_id}/track", b'{"file_name": "a.mp3"}', 410, "session_expired")


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/upload_session",
        "/v1/upload_session/",
        "/v1/upload//track",
        "/%2e%2e/",
        "/\x00",
    ],
)
def test_unknown_routes(client, path):
    """What is no route is 404 in the one shape, not an HTML page."""
    assert_error(client.get(path), 404, "not_found")


ALLOWED = {
    "/v1/upload_session": {"GET", "POST"},
    f"/v1/upload_session/{COLLECTION}": {"GET"},
    f"/v1/upload/{COLLECTION}/track": {"GET", "POST"},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "BREW")


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path in ALLOWED for method in METHODS if method not in ALLOWED[path]]
)
def test_wrong_method(client, path, method):
    """A method that a route does not know is 405 and says in Allow which it knows."""
    response = client.open(path, method=method)
    assert_error(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == ALLOWED[path]


# --- Anything at all ---


@limits(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes(client, endpoint, body):
    """Whatever bytes come, the answer is a refusal in the one shape."""
    response = client.post(endpoint[0], data=body, content_type="application/json")
    assert_error(response, 400, "invalid_request")


@limits(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_path(client, path):
    """Whatever path is asked for, the answer is JSON and no fault of ours."""
    response = client.get("/v1/upload_session/" + path)
    assert response.status_code in (308, 400, 404, 405), response.text


# --- Headers and queries ---

HEADERS = (
    "Accept", "Accept-Encoding", "Access-Control-Request-Headers", "Access-Control-Request-Method", "Authorization",
    "Cookie", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Idempotency-Key",
    "If-Modified-Since", "If-None-Match", "Origin", "Range", "traceparent", "tracestate", "Transfer-Encoding",
    "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Request-ID",
)  # fmt: skip
VALUES = (
    "", " ", "é", "\xff", "x" * 5000, ",", ";", "=", "-1", "1e9", "%", "%ff", "[", "*/*;q=x", "bytes=-", "a:b", "http://[",
    "Bearer", "Basic x", "application/openmetrics-text;version=x", "websocket", "chunked", "0" * 5000, "٣",
)  # fmt: skip
ASKED = (
    ("POST", "/v1/upload_session"), ("GET", f"/v1/upload_session/{COLLECTION}"), ("GET", "/v1/upload_session"),
    ("PUT", "/v1/upload_session"), ("OPTIONS", "/v1/upload_session"), ("GET", "/nothing"), ("GET", "/"),
    ("GET", "/docs"), ("GET", "/metrics"), ("GET", f"/u/{COLLECTION}"), ("GET", "/static/upload.js"),
)  # fmt: skip


@pytest.mark.sqlite
@pytest.mark.parametrize("name", HEADERS)
def test_strange_headers(make_client, name):
    """No header is a fault, whatever it says, however requests are watched."""
    client = make_client(LOG_REQUESTS="1", METRICS_TOKEN=KEY, CORS_ORIGINS="*", TRUSTED_PROXIES="1")
    key = name.upper().replace("-", "_")
    key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"
    headers = {"Authorization": f"Bearer {KEY}"}
    for method, path in ASKED:
        for value in VALUES:
            # As WSGI has them: bytes, each as a character (PEP 3333).
            strange = {key: value.encode().decode("latin-1")}
            with client.open(path, method=method, headers=headers, json={}, environ_overrides=strange) as response:
                assert response.status_code < 500, (method, path, value)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "query",
    ["\xff", "%ff", "limit=\xff", "limit=%00", "limit=\x00", "limit=-1", "limit[]=1", "&&&=&", "collection_id=\xe9"],
)
def test_strange_queries(make_client, query):
    """Nor is a query, though its bytes are no text."""
    client = make_client(API_KEYS=KEY)
    strange, headers = {"QUERY_STRING": query}, {"Authorization": f"Bearer {KEY}"}
    for method, path in ASKED:
        with client.open(path, method=method, headers=headers, environ_overrides=strange) as response:
            assert response.status_code < 500, (method, path)
    if "\xff" in query:
        response = client.get("/v1/upload_session", headers=headers, environ_overrides=strange)
        assert_error(response, 400, "invalid_request")
