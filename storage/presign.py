"""Presigned URLs and POST policies: AWS Signature Version 4 with nothing but `hmac`.

Signing makes no network call. Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
and https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import quote, urlsplit

from .clock import iso

ALGORITHM = "AWS4-HMAC-SHA256"
Credentials = tuple[str, str, str | None]
"""Access key, secret key, session token."""


class Presigner:
    """Signs for one bucket at one endpoint. Safe to share between threads."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        credentials: Callable[[], Credentials],
        region: str = "us-east-1",
        addressing: str = "path",
    ):
        """`endpoint` is the store as clients reach it; `credentials` is asked at each signature."""
        scheme, host = urlsplit(endpoint)[:2]
        default_port = {"http": ":80", "https": ":443"}[scheme]
        self.host = host.removesuffix(default_port)
        self.bucket, self.credentials, self.region = bucket, credentials, region
        if addressing == "virtual":
            self.host, self.base_path = f"{bucket}.{self.host}", "/"
        else:
            self.base_path = f"/{bucket}/"
        self.origin = f"{scheme}://{self.host}"

    def url(
        self,
        method: str,
        key: str,
        expires_in: int,
        now: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """A URL that allows one `method` on one `key` until `now + expires_in` (seconds).

        Every one of `headers` is signed: the request must carry exactly these values.
        """
        access_key, secret, token = self.credentials()
        scope, signing_key = _signing_key(secret, now // 86_400, self.region)
        signed = {"host": self.host}
        if headers:
            signed.update((name.lower(), " ".join(value.split())) for name, value in headers.items())
        names = ";".join(sorted(signed))
        timestamp = _timestamp(now)
        params = {
            **(query or {}),
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{access_key}/{scope}",
            "X-Amz-Date": timestamp,
            "X-Amz-Expires": str(expires_in),
            "X-Amz-SignedHeaders": names,
        }
        if token:
            params["X-Amz-Security-Token"] = token
        path = self.base_path + _encode_path(key)
        encoded = [f"{_encode(name)}={_encode(value)}" for name, value in params.items()]
        canonical = "\n".join(
            (
                method,
                path,
                "&".join(sorted(encoded)),
                *(f"{name}:{signed[name]}" for name in sorted(signed)),
                "",
                names,
                "UNSIGNED-PAYLOAD",
            )
        )
        digest = sha256(canonical.encode()).hexdigest()
        signature = _sign(signing_key, f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}")
        return f"{self.origin}{path}?{'&'.join(encoded)}&X-Amz-Signature={signature}"

    def post_policy(
        self, key: str, expires_in: int, now: int, max_bytes: int, content_type_prefix: str, content_type: str
    ) -> tuple[str, dict[str, str]]:
        """The URL and the form fields of a browser upload (POST) of 1 to `max_bytes` bytes to exactly `key`.

        The form's Content-Type must start with `content_type_prefix`; the fields suggest `content_type`.
        """
        access_key, secret, token = self.credentials()
        scope, signing_key = _signing_key(secret, now // 86_400, self.region)
        fields = {
            "key": key,
            "x-amz-algorithm": ALGORITHM,
            "x-amz-credential": f"{access_key}/{scope}",
            "x-amz-date": _timestamp(now),
        }
        if token:
            fields["x-amz-security-token"] = token
        conditions: list[object] = [{"bucket": self.bucket}]
        conditions += [{name: value} for name, value in fields.items()]
        conditions += [["starts-with", "$Content-Type", content_type_prefix], ["content-length-range", 1, max_bytes]]
        document = {"expiration": iso(now + expires_in), "conditions": conditions}
        policy = b64encode(_to_json(document).encode()).decode()
        fields |= {"Content-Type": content_type, "policy": policy, "x-amz-signature": _sign(signing_key, policy)}
        return self.origin + self.base_path, fields


_to_json = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: int, region: str) -> tuple[str, bytes]:
    """The credential scope and the key of the day (days since the epoch, UTC)."""
    date = strftime("%Y%m%d", gmtime(day * 86_400))
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return f"{date}/{region}/s3/aws4_request", key


@lru_cache(maxsize=8)
def _timestamp(now: int) -> str:
    return strftime("%Y%m%dT%H%M%SZ", gmtime(now))


@lru_cache(maxsize=512)
def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _encode_path(key: str) -> str:
    return quote(key, safe="/-_.~")


def _sign(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()

