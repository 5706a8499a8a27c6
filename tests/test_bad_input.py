"""Invalid input of every kind: one error format, the field's name in it, and nothing stored."""

import json
import time
import tracemalloc
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from support.api import COLLECTION, assert_error, new_session

DEPTH = 100_000
KEY = "a-key-that-is-long-enough-for-a-setting"
DIGEST = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.fixture(params=["session", "track"])
def endpoint(request, client):
    """Path and valid body of each endpoint that accepts JSON."""
    if request.param == "session":
        return "/v1/upload_session", {"collection_id": COLLECTION}
    session_id = new_session(client)["upload_session_id"]
    return f"/v1/upload/{session_id}/track", {"file_name": "a.mp3"}


@pytest.fixture
def settings(settings):
    """Settings with a prefix of the test's own for its objects."""
    return {**settings, "S3_PREFIX": f"bad-input/{uuid4()}/"}


@pytest.fixture
def assert_rejected(client, count_rows, bucket, settings):
    """Send a body and check that it is rejected with an error, and that no row and no object remains."""

    def send(path, body, *expected, content_type="application/json"):
        rows_before = count_rows()
        response = client.post(path, data=body, content_type=content_type)
        assert_error(response, *expected)
        assert response.content_type == "application/json"
        assert count_rows() == rows_before
        return response

    yield send
    assert bucket.keys(settings["S3_PREFIX"]) == []


def with_value(body, name, raw):
    """Return the JSON text of `body` with `raw`, valid JSON or not, as the value of `name`."""
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
        b'{"file_name": "\xff\xfe.mp3"}',
        b'{"file_name": "\xed\xa0\x80.mp3"}',
        b'{"file_name": "\xc0\xaf"}',
        '{"file_name": "a.mp3"}'.encode("utf-16"),
        b"[" * DEPTH,
        b"[" * DEPTH + b"]" * DEPTH,
        b'{"a":' * 40_000,
        b'{"metadata":' + b"[" * DEPTH + b"]" * DEPTH + b"}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_rejects_invalid_json(assert_rejected, endpoint, body):
    """A body that is not JSON in UTF-8 is rejected."""
    assert_rejected(endpoint[0], body, 400, "invalid_request", "not valid JSON")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b"[{}]", b"1.5"])
def test_rejects_json_that_is_no_object(assert_rejected, endpoint, body):
    """JSON of any type but object is rejected."""
    assert_rejected(endpoint[0], body, 400, "invalid_request", "object")


def test_ignores_a_byte_order_mark(client, endpoint):
    """Some editors and shells write one before UTF-8."""
    path, body = endpoint
    response = client.post(path, data=json.dumps(body).encode("utf-8-sig"), content_type="application/json")
    assert response.status_code == 200


def test_rejects_an_empty_body(assert_rejected, endpoint):
    """An empty body is rejected, with or without a content type."""
    assert_rejected(endpoint[0], b"", 400, "invalid_request", "no body")
    assert_rejected(endpoint[0], b"", 400, "invalid_request", "no body", content_type=None)


def test_names_the_required_fields(assert_rejected, endpoint):
    """An error names the required fields that are missing."""
    path, body = endpoint
    assert_rejected(path, b"{}", 400, "invalid_request", *body)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", "json"],
)
def test_rejects_other_content_types(assert_rejected, endpoint, content_type):
    """A body of another content type is rejected, so that no browser sends one without a preflight."""
    path, body = endpoint
    assert_rejected(path, json.dumps(body), 415, "not_json", "application/json", content_type=content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.a+json"]
)
def test_accepts_json_content_types(client, endpoint, content_type):
    """Parameters, capitals and +json types are accepted."""
    path, body = endpoint
    assert client.post(path, data=json.dumps(body), content_type=content_type).status_code == 200


@pytest.mark.parametrize("size", [256 * 1024 + 1, 2**21])
def test_rejects_a_body_over_the_size_limit(assert_rejected, endpoint, size):
    """A body over the limit is rejected for its size, before it is parsed."""
    path, body = endpoint
    assert_rejected(path, json.dumps(body).ljust(size), 413, "too_large")
    assert_rejected(path, b"x" * size, 413, "too_large")


def test_accepts_a_body_of_the_size_limit(client, endpoint):
    """A body of exactly the limit is accepted."""
    path, body = endpoint
    assert (
        client.post(path, data=json.dumps(body).ljust(256 * 1024), content_type="application/json").status_code == 200
    )


def test_rejects_a_truncated_body(client, endpoint, count_rows):
    """A body that ends before its Content-Length is rejected, even if the received part is valid."""
    path, body = endpoint
    text, rows_before = json.dumps(body), count_rows()
    response = client.post(
        path, data=text, content_type="application/json", environ_overrides={"CONTENT_LENGTH": str(len(text) + 5)}
    )
    assert_error(response, 400, "invalid_request")
    assert count_rows() == rows_before


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999"])
def test_rejects_an_invalid_content_length(client, endpoint, length):
    """An invalid or huge Content-Length is an error of the client."""
    path, body = endpoint
    response = client.post(
        path, data=json.dumps(body), content_type="application/json", environ_overrides={"CONTENT_LENGTH": length}
    )
    assert response.status_code in (400, 411, 413), response.text
    assert response.json["ok"] is False


# --- Values ---


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("name", ["metadata", "organization_index", "later"])
def test_rejects_nan_and_infinity(assert_rejected, endpoint, name, raw):
    """NaN, infinities and numbers that overflow to them are rejected at any depth."""
    path, body = endpoint
    assert_rejected(path, with_value(body, name, raw), 400, "invalid_request", "number")
    assert_rejected(path, with_value(body, name, f'{{"a": [{raw}]}}'), 400, "invalid_request", "number")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"b": [{"c": {"d": 1, "e": 2, "d": 1}}]}', "d"),
        ('{"": 1, "": 1}', "duplicate"),
    ],
)
def test_rejects_duplicate_keys(assert_rejected, endpoint, raw, name):
    """A duplicate key is rejected by name, in nested objects too."""
    path, body = endpoint
    assert_rejected(path, with_value(body, "metadata", raw), 400, "invalid_request", "duplicate", name)


def test_finds_a_duplicate_among_many_keys_in_time(assert_rejected, endpoint):
    """A body of many keys, of which the last is a duplicate, does not hold a worker for seconds."""
    path, body = endpoint
    keys = [f"{number:x}" for number in range(24_000)]
    many = "{" + ",".join(f'"{key}":1' for key in [*keys, keys[-1]]) + "}"
    start = time.process_time()
    assert_rejected(path, with_value(body, "metadata", many), 400, "invalid_request", "duplicate", keys[-1])
    assert time.process_time() - start < 1


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1", b'{"":1}'])
def test_bounds_the_memory_of_many_small_values(assert_rejected, client, value):
    """A batch of many small values, which take much more memory than bytes, is rejected before it is parsed."""
    body = b'{"tracks":[' + b",".join([value] * 150_000) + b"]}"
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/tracks"
    tracemalloc.start()
    try:
        assert_rejected(path, body, 400, "invalid_request", "values")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_rejects_duplicate_fields(assert_rejected, endpoint):
    """A field that occurs twice is rejected, since parsers disagree about which one counts."""
    path, body = endpoint
    ((name, value),) = body.items()
    text = f"{{{json.dumps(name)}: {json.dumps(value)}, {json.dumps(name)}: {json.dumps(value)}}}"
    assert_rejected(path, text, 400, "invalid_request", "duplicate", name)


@pytest.mark.parametrize("text", [r"\ud800", r"a\udfff", r"\udc00\ud800", r"\ud83d.mp3", r"\u0000", r"a\u0000b"])
def test_rejects_text_that_cannot_be_stored(assert_rejected, endpoint, text):
    """Unpaired surrogates and NUL are rejected in every text, in keys, and in unknown fields."""
    path, body = endpoint
    for name in (*body, "organization_index", "later"):
        assert_rejected(path, with_value(body, name, f'"{text}"'), 400, "invalid_request", name)
    assert_rejected(path, with_value(body, "metadata", f'{{"a": ["{text}"]}}'), 400, "invalid_request", "metadata.a")
    assert_rejected(path, with_value(body, "metadata", f'{{"{text}": 1}}'), 400, "invalid_request", "key")


@pytest.mark.parametrize("depth", [300, 1000, 5000, 100_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_rejects_deep_nesting(assert_rejected, endpoint, depth, left, right):
    """Nesting that is too deep to search is an error of the client, in every version of Python."""
    path, body = endpoint
    nested = with_value(body, "later", left * depth + r'"\u00e9"' + right * depth)
    assert_rejected(
        path, nested, *((400, "invalid_request", "deep") if len(nested) < 256 * 1024 else (413, "too_large"))
    )


def test_accepts_paired_surrogates(client, endpoint):
    """An escape of a surrogate pair is one character."""
    path, body = endpoint
    response = client.post(
        path, data=with_value(body, "metadata", r'{"a": "\ud83c\udfb5"}'), content_type="application/json"
    )
    assert response.status_code == 200
    echoed = response.json.get("track") or response.json["upload_session"]
    assert echoed["metadata"] == {"a": "🎵"}


@pytest.mark.parametrize("digits", [4400, 50_000])
def test_rejects_integers_of_thousands_of_digits(assert_rejected, endpoint, digits):
    """An integer that is too long for Python to parse is an error of the client."""
    path, body = endpoint
    for name in ("metadata", "file_size", "expires_in", "later"):
        assert_rejected(path, with_value(body, name, "9" * digits), 400, "invalid_request", "digits")
        assert_rejected(path, with_value(body, name, '{"a": -' + "9" * digits + "}"), 400, "invalid_request", "digits")


@pytest.mark.parametrize("number", [2**63, -(2**63), 2**64, 10**100, -(10**4000)])
def test_rejects_integers_beyond_64_bits(assert_rejected, endpoint, number):
    """An integer in metadata that databases and other languages cannot store is rejected."""
    path, body = endpoint
    assert_rejected(
        path, with_value(body, "metadata", f'{{"a": [{number}]}}'), 400, "invalid_request", "metadata", "64 bits"
    )


@pytest.mark.parametrize(
    ("metadata", "text"),
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
def test_rejects_invalid_metadata(assert_rejected, endpoint, metadata, text):
    """Metadata that is no object, too deep or too large is rejected by name."""
    path, body = endpoint
    assert_rejected(path, json.dumps({**body, "metadata": metadata}), 400, "invalid_request", "metadata", text)


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
        "checksum_crc64nvme": [*WRONG_DIGESTS, "AAAAAA==", "AAAAAAAAAAA", "AAAAAAAAAAAA", "AAAAAAAAAA-="],
        "checksum_crc32c": [*WRONG_DIGESTS, "AAAAAAAAAAA=", "AAAAAA", "AAAAAAAA", "AAAA-A=="],
    },
}


@pytest.mark.parametrize("field", FIELDS["/v1/upload_session"])
def test_rejects_wrong_values_of_session_fields(assert_rejected, client, field):
    """Every wrong value of a session's field is rejected with the field's name."""
    for value in FIELDS["/v1/upload_session"][field]:
        body = json.dumps({"collection_id": COLLECTION, field: value})
        assert_rejected("/v1/upload_session", body, 400, "invalid_request", field)


@pytest.mark.parametrize("field", FIELDS["track"])
def test_rejects_wrong_values_of_track_fields(assert_rejected, client, field):
    """Every wrong value of a track's field is rejected with the field's name, in a first track too."""
    path = f"/v1/upload/{new_session(client)['upload_session_id']}/track"
    for value in FIELDS["track"][field]:
        track = {"file_name": "a.mp3", field: value}
        assert_rejected(path, json.dumps(track), 400, "invalid_request", field)
        nested = {"collection_id": COLLECTION, "track": track}
        assert_rejected("/v1/upload_session", json.dumps(nested), 400, "invalid_request", f"track.{field}")


def test_reports_all_errors_at_once(assert_rejected, client):
    """A request with several errors gets all of them in one response."""
    body = {"collection_id": "x", "creator_id": 1, "metadata": 2, "track": {"file_size": "1"}}
    names = ("collection_id", "creator_id", "metadata", "track.file_name", "track.file_size")
    assert_rejected("/v1/upload_session", json.dumps(body), 400, "invalid_request", *names)


def test_errors_do_not_echo_the_input(assert_rejected, endpoint):
    """An error does not contain the input, so that no page can be made to show it."""
    path, body = endpoint
    for bad in (b"<script>alert(1)</script>", json.dumps({**body, "metadata": "<script>"}).encode()):
        assert "<script>" not in assert_rejected(path, bad, 400, "invalid_request").text


# --- Paths and methods ---


@pytest.mark.parametrize(
    "raw_id",
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
def test_rejects_invalid_ids_in_paths(client, assert_rejected, raw_id):
    """An id in a path that is no UUID is rejected by name."""
    assert_error(client.get(f"/v1/upload_session/{raw_id}"), 400, "invalid_request", "upload_session_id")
    assert_rejected(
        f"/v1/upload/{raw_id}/track", b'{"file_name": "a.mp3"}', 400, "invalid_request", "upload_session_id"
    )


def test_accepts_ids_in_capitals(client):
    """An id in capitals is the same id."""
    session_id = new_session(client)["upload_session_id"]
    response = client.post(f"/v1/upload/{session_id.upper()}/track", json={"file_name": "a.mp3"})
    assert response.status_code == 200
    assert response.json["upload_session_id"] == session_id


def test_unknown_session_is_not_found(client, assert_rejected):
    """A session that does not exist is 404 for both endpoints."""
    assert_error(client.get(f"/v1/upload_session/{COLLECTION}"), 404, "session_not_found", "upload_session_id")
    assert_rejected(f"/v1/upload/{COLLECTION}/track", b'{"file_name": "a.mp3"}', 404, "session_not_found")


def test_unknown_session_is_not_found_before_a_batch_is_read(assert_rejected):
    """A large batch for an unknown session is rejected before it is parsed."""
    path = f"/v1/upload/{COLLECTION}/tracks"
    assert_rejected(path, b"[" * 2**20, 404, "session_not_found")


def test_expired_session_is_gone(client, assert_rejected, clock):
    """An expired session is 410."""
    session_id = new_session(client, expires_in=60)["upload_session_id"]
    clock.forward(61)
    assert_rejected(f"/v1/upload/{session_id}/track", b'{"file_name": "a.mp3"}', 410, "session_expired")


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
def test_unknown_routes_get_json(client, path):
    """An unknown route is 404 in the common format, not an HTML page."""
    assert_error(client.get(path), 404, "not_found")


ALLOWED = {
    "/v1/upload_session": {"GET", "POST"},
    f"/v1/upload_session/{COLLECTION}": {"GET", "PATCH"},
    f"/v1/upload/{COLLECTION}/track": {"GET", "POST"},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "BREW")


@pytest.mark.parametrize(
    ("path", "method"), [(path, method) for path in ALLOWED for method in METHODS if method not in ALLOWED[path]]
)
def test_wrong_method_lists_the_allowed_ones(client, path, method):
    """A method that a route does not support is 405, with the supported ones in Allow."""
    response = client.open(path, method=method)
    assert_error(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == ALLOWED[path]


# --- Random input ---


@limits(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_get_an_error(client, endpoint, body):
    """Any bytes as a body get an error in the common format."""
    response = client.post(endpoint[0], data=body, content_type="application/json")
    assert_error(response, 400, "invalid_request")


@limits(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_path_gets_a_defined_response(client, path):
    """Any path gets JSON, and never a 500."""
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
REQUESTS = (
    ("POST", "/v1/upload_session"), ("GET", f"/v1/upload_session/{COLLECTION}"), ("GET", "/v1/upload_session"),
    ("PUT", "/v1/upload_session"), ("OPTIONS", "/v1/upload_session"), ("GET", "/nothing"), ("GET", "/"),
    ("GET", "/docs"), ("GET", "/metrics"), ("GET", f"/u/{COLLECTION}"), ("GET", "/loadbay/upload.js"),
)  # fmt: skip


@pytest.mark.sqlite
@pytest.mark.parametrize("name", HEADERS)
def test_no_header_causes_a_server_error(make_client, name):
    """No value of any header is a 500, with every kind of request logging."""
    client = make_client(LOG_REQUESTS="1", METRICS_TOKEN=KEY, CORS_ORIGINS="*", TRUSTED_PROXIES="1")
    key = name.upper().replace("-", "_")
    key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"
    headers = {"Authorization": f"Bearer {KEY}"}
    for method, path in REQUESTS:
        for value in VALUES:
            # WSGI passes each byte as a character (PEP 3333).
            environ = {key: value.encode().decode("latin-1")}
            with client.open(path, method=method, headers=headers, json={}, environ_overrides=environ) as response:
                assert response.status_code < 500, (method, path, value)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "query",
    ["\xff", "%ff", "limit=\xff", "limit=%00", "limit=\x00", "limit=-1", "limit[]=1", "&&&=&", "collection_id=\xe9"],
)
def test_no_query_causes_a_server_error(make_client, query):
    """No query is a 500, even if its bytes are no text."""
    client = make_client(API_KEYS=KEY)
    environ, headers = {"QUERY_STRING": query}, {"Authorization": f"Bearer {KEY}"}
    for method, path in REQUESTS:
        with client.open(path, method=method, headers=headers, environ_overrides=environ) as response:
            assert response.status_code < 500, (method, path)
    if "\xff" in query:
        response = client.get("/v1/upload_session", headers=headers, environ_overrides=environ)
        assert_error(response, 400, "invalid_request")
