"""AWS's endpoints: dual-stack, FIPS, access points and their aliases, compared with what botocore sends."""

from __future__ import annotations

from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from botocore.config import Config

from storage.s3 import bucket as bucket_module
from storage.s3.bucket import Bucket
from storage.s3.presign import Presigner
from storage.settings import Settings
from test_presign import NOON, botocore_time

pytestmark = pytest.mark.sqlite

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
ACCESS_POINT = "arn:aws:s3:eu-west-1:111122223333:accesspoint/music"
ALIAS = "music-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias"

# Settings, then the bucket and the options of botocore's client that mean the same.
ENDPOINTS = {
    "regional": ("https://s3.eu-west-1.amazonaws.com", "tracks", "virtual", "tracks", {}),
    "dual-stack": (
        "https://s3.dualstack.eu-west-1.amazonaws.com", "tracks", "virtual", "tracks", {"use_dualstack_endpoint": True},
    ),
    "dual-stack, path": (
        "https://s3.dualstack.eu-west-1.amazonaws.com", "tracks", "path", "tracks",
        {"use_dualstack_endpoint": True, "s3": {"addressing_style": "path"}},
    ),
    "access point": (
        "https://s3-accesspoint.eu-west-1.amazonaws.com", "music-111122223333", "virtual", ACCESS_POINT, {},
    ),
    "access point, dual-stack": (
        "https://s3-accesspoint.dualstack.eu-west-1.amazonaws.com", "music-111122223333", "virtual", ACCESS_POINT,
        {"use_dualstack_endpoint": True},
    ),
    "access point's alias": ("https://s3.eu-west-1.amazonaws.com", ALIAS, "virtual", ALIAS, {}),
}  # fmt: skip


def settings_of(name):
    """Return the settings for an endpoint."""
    endpoint, bucket, addressing, _, _ = ENDPOINTS[name]
    keys = {key.upper(): value for key, value in KEYS.items()}
    values = {"S3_ENDPOINT": endpoint, "S3_BUCKET": bucket, "S3_ADDRESSING": addressing, "S3_REGION": "eu-west-1"}
    return Settings.load({**values, **keys})


def botocore_url(name, method, **params):
    """Return the URL that botocore signs at noon."""
    *_, bucket, options = ENDPOINTS[name]
    options = {"s3": {"addressing_style": "virtual"}, **options}
    client = boto3.client("s3", region_name="eu-west-1", config=Config(signature_version="s3v4", **options), **KEYS)
    with botocore_time(NOON):
        return client.generate_presigned_url(method, Params={"Bucket": bucket, "Key": "a b/ü.wav", **params})


def parts_of(url):
    """Return scheme and host, path, and parameters of a URL, in any order."""
    parts = urlsplit(url)
    return parts.netloc, unquote(parts.path), sorted(parts.query.split("&"))


@pytest.mark.parametrize("name", ENDPOINTS)
def test_urls_for_clients_are_those_of_botocore(name):
    """A presigned PUT for the endpoint is the one of botocore: host, path and signature."""
    settings = settings_of(name)
    bucket = Bucket(settings)
    signer = Presigner(
        settings.s3_endpoint, bucket.name, bucket.credentials, settings.s3_region, settings.s3_addressing
    )
    url = signer.url("PUT", "a b/ü.wav", 3600, NOON)
    assert parts_of(url) == parts_of(botocore_url(name, "put_object"))


class Sent(Exception):
    """A request that is not sent."""


def sent_request(call):
    """Return method, URL and headers of the first request that `call` would send."""

    def urlopen(self, method, url, redirect=True, **options):
        raise Sent(method, url, dict(options["headers"]))

    with patch.object(bucket_module.StorePoolManager, "urlopen", urlopen), pytest.raises(Sent) as sent:
        call()
    return sent.value.args


@pytest.mark.parametrize("name", ENDPOINTS)
def test_own_requests_go_to_the_same_place(name):
    """The service's own requests, of minio and of the presigner, go to the host and path that clients are given."""
    bucket = Bucket(settings_of(name))
    host, path, _ = parts_of(botocore_url(name, "put_object"))
    for call in (
        lambda: bucket.head("a b/ü.wav"),
        lambda: bucket.copy("other", "a b/ü.wav", "0cc1", "audio/wav"),
        lambda: bucket.create_multipart_upload("a b/ü.wav", None),
    ):
        _, url, headers = sent_request(call)
        assert parts_of(url)[:2] == (host, path)
        assert headers.get("Host", host) == host


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("regional", "/tracks/incoming/a b"),
        ("access point", f"{ACCESS_POINT}/object/incoming/a b"),
        ("access point, dual-stack", f"{ACCESS_POINT}/object/incoming/a b"),
        ("access point's alias", f"/{ALIAS}/incoming/a b"),
    ],
)
def test_copies_name_their_source_as_s3_demands(name, source):
    """Within an access point, the source of a copy is named by the access point's ARN."""
    bucket = Bucket(settings_of(name))
    _, _, headers = sent_request(lambda: bucket.copy("incoming/a b", "final", "0cc1", "audio/wav"))
    assert unquote(headers["x-amz-copy-source"]) == source
    assert headers["x-amz-copy-source"].isascii()
    assert " " not in headers["x-amz-copy-source"]
