"""storage/presign.py, held against botocore, and against the real store where that is the judge."""

import json
from base64 import b64decode
from calendar import timegm
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
import requests
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from storage import clock
from storage.s3.presign import Presigner
from support.store import ACCESS_KEY, BUCKET, SECRET_KEY

NOON = timegm((2026, 1, 31, 12, 0, 0))
MIDNIGHT = timegm((2026, 2, 1, 0, 0, 0))
ENDPOINT = "https://s3.example.com"
NAMES = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
TOKEN = "FwoGZXIvYXdzEBYaD+/=long token=="

KEYS = [
    "tracks/abc/track-1.mp3",
    "with a space.mp3",
    "a+b.mp3",
    "a~b_c-d.e.mp3",
    "100%.mp3",
    "already%20encoded.mp3",
    "quotes'\"()*!.mp3",
    "query?and#hash&amp=;:@,$.mp3",
    "héllo wörld.mp3",
    "音楽/曲 1.mp3",
    "🎵.mp3",
    "//two//slashes/",
    "./dots/../here",
    "back\\slash<>[]{}|^`.mp3",
    "tab\tand\x7f.mp3",
]


def presigner(endpoint=ENDPOINT, names=NAMES, **kwargs):
    return Presigner(endpoint, "tracks", lambda: names, **kwargs)


def at(seconds):
    """botocore's clock, stopped at this second."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return patch.object(botocore.auth, "get_current_datetime", lambda: moment)


def oracle(url, expires_in=900, *, now=NOON, method="PUT", headers=None, query=None, names=NAMES, region="us-east-1"):
    """The URL as botocore signs it."""
    request = AWSRequest(method, url, headers=headers or {}, params=query or {})
    with at(now):
        botocore.auth.S3SigV4QueryAuth(Credentials(*names), "s3", region, expires_in).add_auth(request)
    return request.url


def url_of(key, base=f"{ENDPOINT}/tracks/"):
    return base + quote(key, safe="/~")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("addressing", "base"), [("path", f"{ENDPOINT}/tracks/"), ("virtual", "https://tracks.s3.example.com/")]
)
def test_url_of_any_key(key, addressing, base):
    """A URL is botocore's to the byte, whatever stands in the key, with both kinds of addressing."""
    assert presigner(addressing=addressing).url("PUT", key, 900, NOON) == oracle(url_of(key, base))


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("expires_in", [1, 60, 604_800])
def test_method_and_life(method, expires_in):
    """Method and life are signed as botocore signs them."""
    assert presigner().url(method, "key", expires_in, NOON) == oracle(url_of("key"), expires_in, method=method)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("http://s3.example.com:80", "s3.example.com"),
        ("https://s3.example.com:443", "s3.example.com"),
        ("http://s3.example.com:443", "s3.example.com:443"),
        ("https://s3.example.com:80", "s3.example.com:80"),
        ("http://s3.example.com:8080", "s3.example.com:8080"),
        ("http://127.0.0.1:8333", "127.0.0.1:8333"),
        ("https://[::1]:9000", "[::1]:9000"),
        ("http://[::1]", "[::1]"),
        ("https://S3.Example.COM", "s3.example.com"),
        ("https://S3.Example.COM:8333", "s3.example.com:8333"),
    ],
)
def test_host_as_clients_send_it(endpoint, host):
    """The signed host is what a client sends for the URL: in lower case, without the scheme's own port."""
    url = presigner(endpoint).url("PUT", "key", 900, NOON)
    assert urlsplit(url).netloc == host
    assert requests.Request("PUT", url).prepare().url == url
    assert url == oracle(f"{urlsplit(endpoint).scheme}://{host}/tracks/key")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "5368709120"},
        {"Content-Type": "audio/mpeg"},
        {"Content-Type": 'text/plain; charset="utf-8"'},
        {"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
        {"If-None-Match": "*"},
        {"x-amz-meta-title": "  two   spaces "},
        {
            "Content-Length": "1",
            "Content-Type": "audio/flac",
            "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "If-None-Match": "*",
        },
    ],
)
@pytest.mark.parametrize("names", [NAMES, (*NAMES[:2], TOKEN)])
def test_signed_headers(headers, names):
    """Every header that is asked for is signed, alone and together with the others."""
    url = presigner(names=names).url("PUT", "key", 900, NOON, headers)
    assert url == oracle(url_of("key"), headers=headers, names=names)
    for name in headers:
        assert name.lower() in url


@pytest.mark.parametrize(
    "query",
    [
        {"partNumber": "1", "uploadId": "VXBsb2FkIElE+/=="},
        {"uploadId": "a b&c=d", "partNumber": "10000"},
        {"response-content-disposition": 'attachment; filename="a b.mp3"'},
        {"versionId": "null"},
        {"a": "2", "a-b": "1", "a1": "0", "A": "3"},
    ],
)
@pytest.mark.parametrize("names", [NAMES, (*NAMES[:2], TOKEN)])
def test_query_parameters(query, names):
    """Parameters of S3's own are part of the URL and of the signature."""
    url = presigner(names=names).url("PUT", "a key", 900, NOON, {"Content-Length": "5"}, query)
    assert url == oracle(url_of("a key"), headers={"Content-Length": "5"}, query=query, names=names)


@pytest.mark.parametrize("names", [(*NAMES[:2], TOKEN), ("key/with+signs", "s", "t"), ("ключ", "пароль", None)])
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "auto"])
def test_credentials_and_region(names, region):
    """Session tokens, odd credentials and other regions are signed as botocore signs them."""
    url = presigner(names=names, region=region).url("PUT", "key", 900, NOON)
    assert url == oracle(url_of("key"), names=names, region=region)


def test_credentials_that_change():
    """Credentials are asked for at each signature, so that new ones count at once."""
    names = [NAMES]
    one = Presigner(ENDPOINT, "tracks", lambda: names[0])
    one.url("PUT", "key", 900, NOON)
    names[0] = ("OTHER", "other-secret", "token")
    assert one.url("PUT", "key", 900, NOON) == oracle(url_of("key"), names=names[0])


def test_midnight():
    """At midnight UTC the day's signing key is another one, forth and back."""
    one = presigner()
    for now in (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, MIDNIGHT - 1):
        assert one.url("PUT", "key", 900, now) == oracle(url_of("key"), now=now)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
# What a header can hold at all: visible ASCII, spaces and tabs.
ANY_VALUE = st.text([chr(code) for code in (9, *range(32, 127))], max_size=40)
ANY_NAME = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True).map("x-amz-meta-{}".format)
OURS = ("Content-Length", "content-type", "X-Amz-Checksum-SHA256", "If-None-Match")
ANY_HEADERS = st.dictionaries(st.one_of(st.sampled_from(OURS), ANY_NAME), ANY_VALUE, max_size=6).filter(
    lambda headers: len({name.lower() for name in headers}) == len(headers)
)
ANY_QUERY = st.dictionaries(ANY_TEXT, st.text(st.characters(exclude_categories=["Cs"])), max_size=6)


@limits(deadline=None, max_examples=300)
@given(headers=ANY_HEADERS, query=ANY_QUERY, token=st.none() | ANY_TEXT)
def test_any_headers_and_query(headers, query, token):
    """Whatever is to be signed beside the key is signed as botocore signs it, in its order."""
    names = (*NAMES[:2], token)
    url = presigner(names=names).url("PUT", "a key", 900, NOON, headers, query)
    assert url == oracle(url_of("a key"), headers=headers, query=query, names=names)


@limits(deadline=None, max_examples=200)
@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), now=st.integers(0, 4_000_000_000))
def test_any_key_at_any_time(key, now):
    """No key makes the presigner fail or differ from botocore."""
    assert presigner().url("PUT", key, 900, now) == oracle(url_of(key), now=now)


@pytest.mark.parametrize("key", [*KEYS[:11], KEYS[13]])
def test_the_store_agrees(key, store_endpoint, bucket):
    """The real store takes the URL of an odd key and keeps the bytes under exactly this key."""
    one = Presigner(store_endpoint, BUCKET, lambda: (ACCESS_KEY, SECRET_KEY, None))
    key = f"test-presign/{key}"
    response = requests.put(one.url("PUT", key, 60, clock.now()), data=b"bytes", timeout=10)
    assert response.status_code == 200, response.text
    assert bucket.get(key) == b"bytes"


def policy_oracle(key, expires_in, now, names, ours):
    """botocore's form fields for the same promise, its policy as an object, and its signature of `ours`."""
    request = AWSRequest("POST", f"{ENDPOINT}/tracks/")
    request.context["s3-presign-post-fields"] = {"key": key, "Content-Type": "image/jpeg"}
    request.context["s3-presign-post-policy"] = {
        "expiration": clock.isoformat_utc(now + expires_in),
        "conditions": [
            {"bucket": "tracks"},
            {"key": key},
            ["starts-with", "$Content-Type", "image/"],
            ["content-length-range", 1, 1000],
        ],
    }
    auth = botocore.auth.S3SigV4PostAuth(Credentials(*names), "s3", "us-east-1")
    with at(now):
        auth.add_auth(request)
    fields = request.context["s3-presign-post-fields"]
    return fields, json.loads(b64decode(fields["policy"])), auth.signature(ours, request)


def ordered(policy):
    return {**policy, "conditions": sorted(policy["conditions"], key=json.dumps)}


@pytest.mark.parametrize("names", [NAMES, (*NAMES[:2], TOKEN)])
@pytest.mark.parametrize("now", [NOON, MIDNIGHT - 1, MIDNIGHT])
@pytest.mark.parametrize("key", ["c/i.cover", "with a 'space' \"quote\" \\ $dollar.cover", "音楽 🎵.cover"])
def test_post_policy(key, now, names):
    """A policy has botocore's fields, says what botocore's says, and is signed as botocore signs it."""
    url, fields = presigner(names=names).post_policy(key, 900, now, 1000, "image/", "image/jpeg")
    expected, policy, signature = policy_oracle(key, 900, now, names, fields["policy"])
    assert url == f"{ENDPOINT}/tracks/"
    assert ordered(json.loads(b64decode(fields["policy"]))) == ordered(policy)
    assert fields["x-amz-signature"] == signature
    different = ("policy", "x-amz-signature")  # JSON may be written in more than one way.
    assert {k: v for k, v in fields.items() if k not in different} == {
        k: v for k, v in expected.items() if k not in different
    }


@limits(deadline=None, max_examples=200)
@given(key=ANY_TEXT, now=st.integers(0, 4_000_000_000), expires_in=st.integers(1, 604_800), token=st.none() | ANY_TEXT)
def test_any_post_policy(key, now, expires_in, token):
    """No key, moment or token makes a policy differ from botocore's."""
    names = (*NAMES[:2], token)
    _, fields = presigner(names=names).post_policy(key, expires_in, now, 1000, "image/", "image/jpeg")
    expected, policy, signature = policy_oracle(key, expires_in, now, names, fields["policy"])
    assert ordered(json.loads(b64decode(fields["policy"]))) == ordered(policy)
    assert fields == {**expected, "policy": fields["policy"], "x-amz-signature": signature}


def test_post_url_with_virtual_addressing():
    """With virtual addressing a form goes to the bucket's own host."""
    url, _ = presigner(addressing="virtual").post_policy("key", 900, NOON, 1000, "image/", "image/jpeg")
    assert url == "https://tracks.s3.example.com/"
