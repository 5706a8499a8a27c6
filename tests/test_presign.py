"""storage/s3/presign.py, compared with botocore and tried on the real store."""

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
CREDENTIALS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
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


def presigner(endpoint=ENDPOINT, credentials=CREDENTIALS, **kwargs):
    """Return a presigner with these credentials."""
    return Presigner(endpoint, "tracks", lambda: credentials, **kwargs)


def botocore_time(seconds):
    """Set botocore's clock to this second."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return patch.object(botocore.auth, "get_current_datetime", lambda: moment)


def botocore_url(
    url,
    expires_in=900,
    *,
    now=NOON,
    method="PUT",
    headers=None,
    query=None,
    credentials=CREDENTIALS,
    region="us-east-1",
):
    """Return the URL as botocore signs it."""
    request = AWSRequest(method, url, headers=headers or {}, params=query or {})
    with botocore_time(now):
        botocore.auth.S3SigV4QueryAuth(Credentials(*credentials), "s3", region, expires_in).add_auth(request)
    return request.url


def url_of(key, base=f"{ENDPOINT}/tracks/"):
    """Return the unsigned URL of a key."""
    return base + quote(key, safe="/~")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("addressing", "base"), [("path", f"{ENDPOINT}/tracks/"), ("virtual", "https://tracks.s3.example.com/")]
)
def test_urls_match_botocore_for_any_key(key, addressing, base):
    """A URL is identical to botocore's for any key, with both kinds of addressing."""
    assert presigner(addressing=addressing).url("PUT", key, 900, NOON) == botocore_url(url_of(key, base))


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE", "POST"])
@pytest.mark.parametrize("expires_in", [1, 60, 604_800])
def test_urls_match_for_any_method_and_lifetime(method, expires_in):
    """Method and lifetime are signed as by botocore."""
    assert presigner().url(method, "key", expires_in, NOON) == botocore_url(url_of("key"), expires_in, method=method)


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
def test_signs_the_host_that_clients_send(endpoint, host):
    """The signed host is the one that clients send: in lower case, and without a default port."""
    url = presigner(endpoint).url("PUT", "key", 900, NOON)
    assert urlsplit(url).netloc == host
    assert requests.Request("PUT", url).prepare().url == url
    assert url == botocore_url(f"{urlsplit(endpoint).scheme}://{host}/tracks/key")


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
@pytest.mark.parametrize("credentials", [CREDENTIALS, (*CREDENTIALS[:2], TOKEN)])
def test_signs_all_requested_headers(headers, credentials):
    """Every requested header is signed, alone and with others."""
    url = presigner(credentials=credentials).url("PUT", "key", 900, NOON, headers)
    assert url == botocore_url(url_of("key"), headers=headers, credentials=credentials)
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
@pytest.mark.parametrize("credentials", [CREDENTIALS, (*CREDENTIALS[:2], TOKEN)])
def test_signs_query_parameters(query, credentials):
    """S3's query parameters are part of the URL and of the signature."""
    url = presigner(credentials=credentials).url("PUT", "a key", 900, NOON, {"Content-Length": "5"}, query)
    assert url == botocore_url(url_of("a key"), headers={"Content-Length": "5"}, query=query, credentials=credentials)


@pytest.mark.parametrize(
    "credentials", [(*CREDENTIALS[:2], TOKEN), ("key/with+signs", "s", "t"), ("ключ", "пароль", None)]
)
@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "auto"])
def test_signs_with_any_credentials_and_region(credentials, region):
    """Session tokens, unusual credentials and other regions are signed as by botocore."""
    url = presigner(credentials=credentials, region=region).url("PUT", "key", 900, NOON)
    assert url == botocore_url(url_of("key"), credentials=credentials, region=region)


def test_uses_new_credentials_at_once():
    """Credentials are read for each signature, so that new ones apply at once."""
    credentials = [CREDENTIALS]
    signer = Presigner(ENDPOINT, "tracks", lambda: credentials[0])
    signer.url("PUT", "key", 900, NOON)
    credentials[0] = ("OTHER", "other-secret", "token")
    assert signer.url("PUT", "key", 900, NOON) == botocore_url(url_of("key"), credentials=credentials[0])


def test_signing_key_changes_at_midnight():
    """At midnight UTC, the signing key changes, in both directions."""
    signer = presigner()
    for now in (MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1, MIDNIGHT - 1):
        assert signer.url("PUT", "key", 900, now) == botocore_url(url_of("key"), now=now)


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
# The characters of a header's value: visible ASCII, spaces and tabs.
ANY_VALUE = st.text([chr(code) for code in (9, *range(32, 127))], max_size=40)
ANY_NAME = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True).map("x-amz-meta-{}".format)
SIGNED_HEADERS = ("Content-Length", "content-type", "X-Amz-Checksum-SHA256", "If-None-Match")
ANY_HEADERS = st.dictionaries(st.one_of(st.sampled_from(SIGNED_HEADERS), ANY_NAME), ANY_VALUE, max_size=6).filter(
    lambda headers: len({name.lower() for name in headers}) == len(headers)
)
ANY_QUERY = st.dictionaries(ANY_TEXT, st.text(st.characters(exclude_categories=["Cs"])), max_size=6)


@pytest.mark.slow
@limits(deadline=None, max_examples=300)
@given(headers=ANY_HEADERS, query=ANY_QUERY, token=st.none() | ANY_TEXT)
def test_urls_match_for_random_headers_and_queries(headers, query, token):
    """Random headers and query parameters are signed as by botocore."""
    credentials = (*CREDENTIALS[:2], token)
    url = presigner(credentials=credentials).url("PUT", "a key", 900, NOON, headers, query)
    assert url == botocore_url(url_of("a key"), headers=headers, query=query, credentials=credentials)


@limits(deadline=None, max_examples=200)
@given(key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), now=st.integers(0, 4_000_000_000))
def test_urls_match_for_random_keys_and_times(key, now):
    """Random keys and times are signed as by botocore."""
    assert presigner().url("PUT", key, 900, now) == botocore_url(url_of(key), now=now)


@pytest.mark.parametrize("key", [*KEYS[:11], KEYS[13]])
def test_store_accepts_urls_of_unusual_keys(key, store_endpoint, bucket):
    """The real store accepts the URL of an unusual key, and stores the bytes under exactly this key."""
    signer = Presigner(store_endpoint, BUCKET, lambda: (ACCESS_KEY, SECRET_KEY, None))
    key = f"test-presign/{key}"
    response = requests.put(signer.url("PUT", key, 60, clock.now()), data=b"bytes", timeout=10)
    assert response.status_code == 200, response.text
    assert bucket.get(key) == b"bytes"


def botocore_policy(key, expires_in, now, credentials, encoded_policy):
    """Return botocore's form fields for the same policy, its policy document, and its signature of `encoded_policy`."""
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
    auth = botocore.auth.S3SigV4PostAuth(Credentials(*credentials), "s3", "us-east-1")
    with botocore_time(now):
        auth.add_auth(request)
    fields = request.context["s3-presign-post-fields"]
    return fields, json.loads(b64decode(fields["policy"])), auth.signature(encoded_policy, request)


def with_sorted_conditions(policy):
    """Return the policy with its conditions sorted."""
    return {**policy, "conditions": sorted(policy["conditions"], key=json.dumps)}


@pytest.mark.parametrize("credentials", [CREDENTIALS, (*CREDENTIALS[:2], TOKEN)])
@pytest.mark.parametrize("now", [NOON, MIDNIGHT - 1, MIDNIGHT])
@pytest.mark.parametrize("key", ["c/i.cover", "with a 'space' \"quote\" \\ $dollar.cover", "音楽 🎵.cover"])
def test_post_policy_matches_botocore(key, now, credentials):
    """A POST policy has botocore's fields, conditions and signature."""
    url, fields = presigner(credentials=credentials).post_policy(key, 900, now, 1000, "image/", "image/jpeg")
    expected, policy, signature = botocore_policy(key, 900, now, credentials, fields["policy"])
    assert url == f"{ENDPOINT}/tracks/"
    assert with_sorted_conditions(json.loads(b64decode(fields["policy"]))) == with_sorted_conditions(policy)
    assert fields["x-amz-signature"] == signature
    different = ("policy", "x-amz-signature")  # JSON may be written in more than one way.
    assert {k: v for k, v in fields.items() if k not in different} == {
        k: v for k, v in expected.items() if k not in different
    }


@limits(deadline=None, max_examples=200)
@given(key=ANY_TEXT, now=st.integers(0, 4_000_000_000), expires_in=st.integers(1, 604_800), token=st.none() | ANY_TEXT)
def test_random_post_policies_match_botocore(key, now, expires_in, token):
    """POST policies of random keys, times and tokens match botocore's."""
    credentials = (*CREDENTIALS[:2], token)
    _, fields = presigner(credentials=credentials).post_policy(key, expires_in, now, 1000, "image/", "image/jpeg")
    expected, policy, signature = botocore_policy(key, expires_in, now, credentials, fields["policy"])
    assert with_sorted_conditions(json.loads(b64decode(fields["policy"]))) == with_sorted_conditions(policy)
    assert fields == {**expected, "policy": fields["policy"], "x-amz-signature": signature}


def test_post_policy_uses_virtual_addressing():
    """With virtual addressing, the form is sent to the bucket's own host."""
    url, _ = presigner(addressing="virtual").post_policy("key", 900, NOON, 1000, "image/", "image/jpeg")
    assert url == "https://tracks.s3.example.com/"
