"""The object store that the tests run on, and requests to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import requests
from botocore.config import Config
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from dev.store import Store, free_port
from storage.measuring.probing import Probe
from storage.s3.abilities import Abilities
from storage.settings import Settings

ACCESS_KEY, SECRET_KEY, BUCKET = "test-access-key", "test-secret-key-0123456789", "tracks"
"""The service's key, which may do what the service needs."""

ADMIN_KEY = "test-admin-key", "test-admin-secret-0123456789"
"""The key of the tests themselves, which may do everything."""

ADMIN = {"AWS_ACCESS_KEY_ID": ADMIN_KEY[0], "AWS_SECRET_ACCESS_KEY": ADMIN_KEY[1]}
"""Settings of a service that creates buckets."""


def start_store(folder: Path, log: Path | None = None) -> Store:
    """Start a store that a test may stop or freeze, with its log in a file, if one is given."""
    store = Store(folder, free_port(), BUCKET, ACCESS_KEY, SECRET_KEY, admin_key=ADMIN_KEY)
    with (log or Path(os.devnull)).open("ab") as file:
        store.start(stdout=file.fileno())
    return store


def measured_abilities(endpoint: str) -> Abilities:
    """Measure the bucket of a store, and return its abilities."""
    settings = {"S3_ENDPOINT": endpoint, "S3_BUCKET": BUCKET, "AWS_ACCESS_KEY_ID": ACCESS_KEY}
    return measure({**settings, "AWS_SECRET_ACCESS_KEY": SECRET_KEY})


def measure(settings: Mapping[str, Any]) -> Abilities:
    """Measure the bucket of these settings, and return its abilities."""
    probe = Probe(Settings.load(settings))
    observed: dict[str, Any] = {}
    for observation in probe.measure():
        observed |= observation.abilities
    return Abilities.from_json(observed)


class Bucket:
    """The bucket, read through boto3 and so independently of the service."""

    def __init__(self, endpoint: str, key: tuple[str, str] = ADMIN_KEY):
        self.s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None if there is no such object."""
        try:
            return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None

    def head(self, key: str) -> dict[str, Any]:
        """Return the response to HeadObject."""
        return dict(self.s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED"))

    def keys(self, prefix: str) -> list[str]:
        """List the keys that begin with `prefix`."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


def send(method: str, url: str, **options: Any) -> requests.Response:
    """Send a request to the store; a refused connection, which a busy store may cause, is retried."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(total=None, connect=3, read=0, backoff_factor=0.2)))
        return session.request(method, url, timeout=10, **options)


def put(upload: Mapping[str, Any], body: bytes, **headers: str) -> requests.Response:
    """Send a body to a `track_upload` or to one of its parts, with its headers and these."""
    return send("PUT", upload["upload_url"], data=body, headers={**upload["headers"], **headers})


def staged_key(upload: Mapping[str, Any]) -> str:
    """Return the object key that a `track_upload`, or the form of a `track_cover_upload`, leads to."""
    key = upload.get("fields", {}).get("key") or urlsplit(upload["upload_url"]).path.partition(f"/{BUCKET}/")[2]
    return str(key)


def post_cover(
    upload: Mapping[str, Any], body: bytes, content_type: str = "image/jpeg", **fields: str
) -> requests.Response:
    """Send a cover to a `track_cover_upload`, with its fields and these."""
    form = {**upload["fields"], **fields}
    return send("POST", upload["upload_url"], data=form, files={"file": ("cover.jpg", body, content_type)})
