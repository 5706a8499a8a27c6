"""Presigned URLs, POST policies and signed headers: AWS Signature Version 4, on top of `hmac`.

Signing makes no network call. https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
and https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import orjson

from storage.clock import isoformat_utc

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = sha256().hexdigest()
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
        on_sign: Callable[[str], None] | None = None,
    ):
        """Sign for `endpoint`, the store's URL for clients.

        Each signature calls `credentials` for its keys, and `on_sign` with its method.
        """
        scheme, host = urlsplit(endpoint)[:2]
        default_port = {"http": ":80", "https": ":443"}[scheme]
        # Clients send the host in lower case, and the signature covers it.
        self.host = host.lower().removesuffix(default_port)
        self.bucket, self.credentials, self.region, self._on_sign = bucket, credentials, region, on_sign
        if addressing == "virtual":
            self.host, self.base_path = f"{bucket}.{self.host}", "/"
        else:
            self.base_path = f"/{bucket}/"
        self.origin = f"{scheme}://{self.host}"
        self._host_alone = self._with_encoded_names({})

    def url(
        self,
        method: str,
        key: str,
        expires_in: int,
        now: int,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """Return a URL that allows `method` on `key` until `now + expires_in` (seconds).

        All `headers` are signed: the request must send exactly these values.
        """
        context = self._start(method, now)
        canonical_headers, signed_headers, encoded_names = (
            self._with_encoded_names(headers) if headers else self._host_alone
        )
        path = self.base_path + quote(key, safe="/-_.~")
        params = f"{context.params}&X-Amz-Expires={expires_in}&X-Amz-SignedHeaders={encoded_names}{context.token_param}"
        canonical_params = params
        if query:
            params = "&".join(f"{_encode(name)}={_encode(value)}" for name, value in query.items()) + "&" + params
        if query or context.token_param:
            # Sorted by name, then by value: as whole strings, 'a-b=' would precede 'a='.
            canonical_params = "&".join(sorted(params.split("&"), key=lambda pair: pair.split("=")))
        canonical = f"{method}\n{path}\n{canonical_params}\n{canonical_headers}\n{signed_headers}\nUNSIGNED-PAYLOAD"
        return f"{self.origin}{path}?{params}&X-Amz-Signature={_sign_request(context, canonical)}"

    def signed_headers(self, method: str, key: str, now: int, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return the URL of `key`, and the headers of a request without a body: `headers`, and those that sign them.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
        """
        context, path = self._start(method, now), self.base_path + quote(key, safe="/-_.~")
        sent = {**headers, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": context.timestamp}
        if token := context.fields.get("x-amz-security-token"):
            sent["x-amz-security-token"] = token
        lines, names = self._canonical_headers(sent)
        signature = _sign_request(context, f"{method}\n{path}\n\n{lines}\n{names}\n{EMPTY_SHA256}")
        credential = context.fields["x-amz-credential"]
        sent["Authorization"] = f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return self.origin + path, sent

    def post_policy(
        self,
        key: str,
        expires_in: int,
        now: int,
        max_bytes: int,
        content_type_prefix: str,
        content_type: str,
        fields: Mapping[str, str] | None = None,
    ) -> tuple[str, dict[str, str]]:
        """Return the URL and the form fields of a POST upload of 1 to `max_bytes` bytes to `key`.

        The form's Content-Type must start with `content_type_prefix`; the fields contain `content_type`, and `fields`
        with exactly these values.
        """
        context, others = self._start("POST", now), dict(fields or {})
        conditions = [
            {"bucket": self.bucket}, {"key": key}, *context.conditions, *({name: others[name]} for name in others),
            ["starts-with", "$Content-Type", content_type_prefix], ["content-length-range", 1, max_bytes],
        ]  # fmt: skip
        document = {"expiration": isoformat_utc(now + expires_in), "conditions": conditions}
        policy = b64encode(orjson.dumps(document)).decode()
        form = {"key": key, **context.fields, **others, "Content-Type": content_type, "policy": policy}
        form["x-amz-signature"] = _sign(context.mac, policy)
        return self.origin + self.base_path, form

    def _with_encoded_names(self, headers: Mapping[str, str]) -> tuple[str, str, str]:
        """Return the lines of the signed headers, and their names, also as URLs have them."""
        lines, names = self._canonical_headers(headers)
        return lines, names, _encode_names(names)

    def _canonical_headers(self, headers: Mapping[str, str]) -> tuple[str, str]:
        """Return the lines of the signed headers, and their names separated by semicolons."""
        values = {"host": self.host, **{name.lower(): " ".join(value.split()) for name, value in headers.items()}}
        ordered = sorted(values)
        return "".join(f"{name}:{values[name]}\n" for name in ordered), ";".join(ordered)

    def _start(self, method: str, now: int) -> SigningContext:
        if self._on_sign is not None:
            self._on_sign(method)
        return _signing_context(*self.credentials(), self.region, now)


class SigningContext(NamedTuple):
    """The parts that all signatures of one second share; those of forms begin with `fields`."""

    timestamp: str
    scope: str
    mac: hmac.HMAC
    params: str
    token_param: str
    fields: dict[str, str]
    conditions: list[dict[str, str]]


@lru_cache(maxsize=8)
def _signing_context(access_key: str, secret: str, token: str | None, region: str, now: int) -> SigningContext:
    timestamp = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    credential = f"{access_key}/{scope}"
    params = f"X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={_encode(credential)}&X-Amz-Date={timestamp}"
    token_param = f"&X-Amz-Security-Token={_encode(token)}" if token else ""
    fields = {"x-amz-algorithm": ALGORITHM, "x-amz-credential": credential, "x-amz-date": timestamp}
    fields |= {"x-amz-security-token": token} if token else {}
    conditions = [{name: value} for name, value in fields.items()]
    mac = _signing_mac(secret, timestamp[:8], region)
    return SigningContext(timestamp, scope, mac, params, token_param, fields, conditions)


@lru_cache(maxsize=8)
def _signing_mac(secret: str, date: str, region: str) -> hmac.HMAC:
    """Return the HMAC with the signing key of a day (`date` as 20260131, UTC); copying it is cheaper than a new one."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


@lru_cache(maxsize=64)
def _encode_names(names: str) -> str:
    """Return the names of signed headers, of which there are a few combinations, as URLs have them."""
    return _encode(names)


def _sign_request(context: SigningContext, canonical: str) -> str:
    """Return the signature of a request in its canonical form."""
    digest = sha256(canonical.encode()).hexdigest()
    return _sign(context.mac, f"{ALGORITHM}\n{context.timestamp}\n{context.scope}\n{digest}")


def _sign(mac: hmac.HMAC, text: str) -> str:
    mac = mac.copy()
    mac.update(text.encode())
    return mac.hexdigest()
