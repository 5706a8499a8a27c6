"""The settings: their names in the environment, defaults, checks and meaning."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from storage import url_guard
from storage.errors import InvalidRequest

GIB = 2**30
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_SINGLE_PUT_BYTES = 5 * GIB
MAX_OBJECT_BYTES = 5 * 1024 * GIB
# SigV4 query signatures live for seven days at most:
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
MAX_URL_TTL = 604_800
FORWARDED_HEADERS = {"for", "proto", "port", "host", "prefix"}
"""What `X-Forwarded-` is followed by in a header that a proxy sets."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it and says what it takes."""


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("takes 1 or 0")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"takes a whole number from {low} to {high}")
        return int(value)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"takes one of: {', '.join(choices)}")
        return value

    return parse


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        # A host beyond ASCII would be signed in another form than clients send it.
        usable = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", parts.netloc) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("takes a URL such as https://s3.example.com:8333, without a path or credentials")
    return f"{parts.scheme}://{parts.netloc}"


def _bucket(value: str) -> str:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    usable = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value)
    if not usable or re.search(r"\.\.|\.-|-\.|^[0-9]+(\.[0-9]+){3}$", value):
        raise ValueError("takes a bucket name: 3 to 63 of a-z, 0-9, '.' and '-', no two marks in a row, no IP address")
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("takes a region such as eu-west-1")
    return value


def _prefix(value: str) -> str:
    # Clients and stores make one segment of two where there is a dot for one.
    if not re.fullmatch(r"([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]*", value) or ".." in value or "." in value.split("/"):
        raise ValueError("takes a key prefix such as uploads/, of A-Z, a-z, 0-9, '.', '_', '-' and '/'")
    return value if not value or value.endswith("/") else value + "/"


def _database_url(value: str) -> str:
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        return value
    try:
        # To ask for the port is to have it read.
        usable = value.startswith(("postgres://", "postgresql://")) and urlsplit(value).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("takes sqlite:///path/to/file.db or postgresql://user:password@host/name, in which '/' is %2F")
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _keys(value: str) -> tuple[str, ...]:
    keys = _list(value)
    if any(len(key) < 16 or not key.isascii() for key in keys):
        raise ValueError("takes a comma-separated list of keys, each of 16 ASCII characters or more")
    return keys


def _secret(value: str) -> str:
    if len(value) < 16 or not value.isascii():
        raise ValueError("takes 16 ASCII characters or more")
    return value


def _origins(value: str) -> tuple[str, ...]:
    origins = _list(value.lower())
    if any(origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin) for origin in origins):
        raise ValueError("takes a comma-separated list of origins such as https://app.example.com, or *")
    return origins


def _rate(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}/([1-9][0-9]{0,4} ?)?(second|minute|hour|day)", value):
        raise ValueError("takes a rate such as 600/minute, or 20/10second")
    return value


def _storage(value: str) -> str:
    if not re.match(r"memory://|rediss?://|memcached://[^:,/]+:[0-9]+", value):
        raise ValueError("takes memory://, redis://host:6379/0 or memcached://host:11211")
    return value


def _hosts(value: str) -> tuple[str, ...]:
    hosts = _list(value.lower())
    if any(not re.fullmatch(r"\.?[A-Za-z0-9._-]+(:[0-9]+)?", host) for host in hosts):
        raise ValueError("takes a comma-separated list of hosts such as uploads.example.com or .example.com")
    return hosts


def _forwarded_headers(value: str) -> tuple[str, ...]:
    payload = _list(value.lower())
    if not payload or not set(payload) <= FORWARDED_HEADERS:
        raise ValueError(f"takes a comma-separated list of: {', '.join(sorted(FORWARDED_HEADERS))}")
    return payload


def _webhook_secret(value: str) -> str:
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: 24 to 64 bytes.
    try:
        size = len(b64decode(value.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not value.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("takes whsec_ and 24 to 64 random bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return value


def _setting(parse: Callable[[str], Any], default: Any, meaning: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """One field for each environment variable of the same name in capitals. See `load`."""

    s3_endpoint: str = _setting(_endpoint, "", "Where the service itself reaches the S3 store. Required.")
    s3_bucket: str = _setting(_bucket, "", "The bucket that receives the files. Required.")
    s3_public_endpoint: str = _setting(_endpoint, "", "Where clients reach the store: what URLs are signed for.")
    s3_region: str = _setting(_region, "us-east-1", "The region that requests are signed for.")
    s3_prefix: str = _setting(_prefix, "", "Put before every object key, such as `uploads/`.")
    s3_addressing: str = _setting(_choice("path", "virtual"), "path", "`path` (host/bucket/key) or `virtual`.")
    aws_access_key_id: str = _setting(_text, "", "The store's credentials; without them, those of the machine.")
    aws_secret_access_key: str = _setting(_text, "", "The secret that belongs to it.", secret=True)
    aws_session_token: str = _setting(_text, "", "For temporary credentials.", secret=True)
    database_url: str = _setting(
        _database_url, "sqlite:///loadbay.db", "`sqlite:///file.db` or `postgresql://user@host/name`.", secret=True
    )
    session_ttl: int = _setting(_number(60, 86_400), 3600, "Seconds that a session lives without `expires_in`.")
    upload_url_ttl: int = _setting(_number(1, MAX_URL_TTL), 3600, "Seconds that a URL lives, within its session.")
    max_track_bytes: int = _setting(_number(1, MAX_OBJECT_BYTES), MAX_SINGLE_PUT_BYTES, "The largest track.")
    max_cover_bytes: int = _setting(_number(1, GIB), 10 * 2**20, "The largest cover.")
    max_tracks_per_session: int = _setting(_number(1, 10_000_000), 10_000, "The most tracks in one session.")
    multipart_threshold_bytes: int = _setting(
        _number(5 * 2**20, MAX_SINGLE_PUT_BYTES), MAX_SINGLE_PUT_BYTES, "A larger track comes in parts, asked or not."
    )
    write_once_put: bool = _setting(
        _flag, True, "`0` for a store that does not honour `If-None-Match: *`: what arrives is sealed by copying."
    )
    cover_upload: str = _setting(
        _choice("direct", "relay"), "direct", "`direct` (a POST policy) or `relay` (for stores without one)."
    )
    api_keys: tuple[str, ...] = _setting(_keys, (), "Comma-separated keys of full access.", secret=True)
    allow_anonymous: bool = _setting(_flag, False, "`1` lets anyone create sessions. For a dev box only.")
    cors_origins: tuple[str, ...] = _setting(_origins, (), "Origins of browsers on other sites, or `*`.")
    trusted_proxies: int = _setting(
        _number(0, 10), 0, "How many proxies in front set `X-Forwarded-*`; others' are ignored."
    )
    # Routers of platforms pass on what clients say of host and prefix.
    trusted_proxy_headers: tuple[str, ...] = _setting(
        _forwarded_headers,
        ("for", "proto", "port"),
        "Which `X-Forwarded-*` all of them set or remove; others are ignored.",
    )
    trusted_hosts: tuple[str, ...] = _setting(_hosts, (), "Host names that requests may name; without it, any.")
    rate_limit_sessions: str = _setting(_rate, "", "How often one API key may open sessions, such as `60/minute`.")
    rate_limit_tracks: str = _setting(_rate, "", "How many tracks one session may register, such as `600/minute`.")
    rate_limit_storage: str = _setting(
        _storage, "memory://", "Where rates are counted: this process's memory, or `redis://host:6379/0` for many.",
        secret=True,
    )  # fmt: skip
    store_event_secret: str = _setting(_secret, "", "What the store sends as Bearer to `/v1/store_event`.", secret=True)
    metrics_token: str = _setting(
        _secret, "", "What Prometheus sends as Bearer to `/metrics`; without it there is no such route.", secret=True
    )
    log_requests: bool = _setting(_flag, False, "`1` logs a line for each request. gunicorn.conf.py sets it.")
    log_format: str = _setting(_choice("text", "json"), "text", "`text` or `json`. gunicorn.conf.py sets `json`.")
    webhook_url: str = _setting(_text, "", "Where events go, for a deploy of one organisation.", secret=True)
    webhook_secret: str = _setting(_webhook_secret, "", "What they are signed with: `whsec_...`.", secret=True)
    webhook_allow_private: bool = _setting(
        _flag, False, "`1` lets webhooks lead to private addresses and by `http://`. For a dev box only."
    )
    sweep_interval: int = _setting(_number(60, 604_800), 3600, "Seconds between two sweeps of the worker.")
    create_missing: bool = _setting(_flag, False, "`1` creates tables and bucket at start. For a dev box only.")

    @classmethod
    def load(cls, source: Mapping[str, object]) -> Settings:
        """Read the settings from `source` (the environment, or a mapping with the same names in capitals).

        An empty value counts as not set, as deploy platforms cannot always unset one. Raises SettingsError.
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = item.name.upper()
            raw = source.get(name)
            if raw is None or raw == "":
                continue
            if isinstance(raw, (list, tuple)):
                raw = ",".join(map(str, raw))
            text = str(int(raw)) if isinstance(raw, bool) else str(raw).strip()
            try:
                values[item.name] = item.metadata["parse"](text)
            except ValueError as e:
                raise SettingsError(f"The setting {name} {e}.") from None
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        for name in ("s3_endpoint", "s3_bucket"):
            if not getattr(self, name):
                raise SettingsError(f"The setting {name.upper()} is missing. The README's table says what it takes.")
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise SettingsError("The settings AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together.")
        if bool(self.webhook_url) != bool(self.webhook_secret):
            raise SettingsError("The settings WEBHOOK_URL and WEBHOOK_SECRET go together.")
        try:
            url_guard.parse_webhook_url(self.webhook_url or "https://localhost", self.webhook_allow_private)
        except InvalidRequest as e:
            raise SettingsError(f"The setting WEBHOOK_URL {e.message.removeprefix('url: ')}") from None
        if self.aws_session_token and not self.aws_access_key_id:
            raise SettingsError("The setting AWS_SESSION_TOKEN needs AWS_ACCESS_KEY_ID beside it.")
