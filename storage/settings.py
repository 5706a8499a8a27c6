"""The settings: environment variables, their defaults, validation and descriptions. A bad one aborts the startup."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from storage.errors import InvalidRequest
from storage.http import url_guard

GIB = 2**30
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_SINGLE_PUT_BYTES = 5 * GIB
MAX_OBJECT_BYTES = 5 * 1024 * GIB
# A SigV4 query signature is valid for at most seven days:
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
MAX_URL_TTL = 604_800
MAX_SESSION_SECONDS = 2_592_000
"""Seconds for which an upload session may be open: 30 days."""
MAX_TAGS = 10
OBJECT_METADATA = ("track", "collection", "organization", "session")
STORAGE_CLASSES = (
    "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY",
)  # fmt: skip
"""Those of which objects can be read at once, as the verification does."""

FORWARDED_HEADERS = {"for", "proto", "port", "host", "prefix"}
"""The proxy headers that can be trusted, without their `X-Forwarded-`."""


class SettingsError(ValueError):
    """A setting is missing or invalid; the message names it and says what it must be."""


def _text(value: str) -> str:
    return value


def _topics(value: str) -> tuple[str, ...]:
    topics = _list(value)
    if any(not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}", arn) for arn in topics):
        raise ValueError("must be a comma-separated list of ARNs such as arn:aws:sns:eu-west-1:123456789012:uploads")
    return topics


def _flag(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def _switch(value: str) -> str:
    """Return `auto`, `1` or `0`."""
    try:
        return "auto" if value.lower() == "auto" else str(int(_flag(value)))
    except ValueError:
        raise ValueError("must be auto, 1 or 0") from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"must be an integer from {low} to {high}")
        return int(value)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return value

    return parse


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        # Clients send a non-ASCII host in another form than the one that would be signed.
        valid = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?", parts.netloc) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be a URL such as https://s3.example.com:8333, without a path or credentials")
    return f"{parts.scheme}://{parts.netloc}"


def _bucket(value: str) -> str:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    valid = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value)
    if not valid or re.search(r"\.\.|\.-|-\.|^[0-9]+(\.[0-9]+){3}$", value):
        raise ValueError(
            "must be a bucket name: 3-63 characters a-z, 0-9, '.' or '-', without consecutive punctuation, "
            "and not an IP address"
        )
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-express-create-session.html
    if value.endswith("--x-s3"):
        raise ValueError(
            "must be a general purpose bucket: requests to a directory bucket (S3 Express One Zone) are signed with "
            "session tokens of five minutes, which presigned URLs would not outlive"
        )
    return value


def _kms_key(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:/_.-]{1,2048}", value):
        raise ValueError("must be the id, alias or ARN of a KMS key, such as 1234abcd-12ab-34cd-56ef-1234567890ab")
    return value


def _tagging(value: str) -> str:
    """Return tags as S3's `x-amz-tagging` has them. Their limits: AmazonS3/latest/userguide/object-tagging.html."""
    try:
        tags = parse_qsl(value, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        tags = []
    valid = all(
        re.fullmatch(r"[\w .:/=+@-]{1,128}", name) and re.fullmatch(r"[\w .:/=+@-]{0,256}", text) for name, text in tags
    )
    reserved = any(name.lower().startswith("aws:") for name, _ in tags)
    if not 1 <= len(dict(tags)) == len(tags) <= MAX_TAGS or not valid or reserved:
        raise ValueError(
            f"must be 1 to {MAX_TAGS} tags such as team=audio&cost-center=42, URL-encoded, with different keys of at "
            "most 128 characters that do not begin with aws:, and values of at most 256 (letters, digits, space and "
            "+-=._:/@)"
        )
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in tags)


def _object_metadata(value: str) -> tuple[str, ...]:
    names = _list(value.lower())
    if not names or not set(names) <= set(OBJECT_METADATA):
        raise ValueError(f"must be a comma-separated list of: {', '.join(OBJECT_METADATA)}")
    return tuple(name for name in OBJECT_METADATA if name in names)


def _account(value: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", value):
        raise ValueError("must be the 12 digits of an AWS account")
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("must be a region such as eu-west-1")
    return value


def _prefix(value: str) -> str:
    # Clients and stores resolve dot segments, so that a key with one cannot be signed.
    if not re.fullmatch(r"([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]*", value) or ".." in value or "." in value.split("/"):
        raise ValueError("must be a key prefix such as uploads/, with characters A-Z, a-z, 0-9, '.', '_', '-' or '/'")
    return value if not value or value.endswith("/") else value + "/"


def _database_url(value: str) -> str:
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        return value
    try:
        # Reading `port` validates it.
        valid = value.startswith(("postgres://", "postgresql://")) and urlsplit(value).port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(
            "must be sqlite:///path/to/file.db or postgresql://user:password@host/name, with '/' in the password as %2F"
        )
    return value


def _proxy(value: str) -> str:
    try:
        parts = urlsplit(value)
        # Reading `port` validates it.
        valid = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and value.isascii()
    except ValueError:
        valid = False
    if not valid or parts.path.strip("/") or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("must be a URL such as http://user:password@proxy.example.com:3128")
    return value


def _list(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _keys(value: str) -> tuple[str, ...]:
    keys = _list(value)
    if any(len(key) < 16 or not key.isascii() for key in keys):
        raise ValueError("must be a comma-separated list of keys, each at least 16 ASCII characters long")
    return keys


def _secret(value: str) -> str:
    if len(value) < 16 or not value.isascii():
        raise ValueError("must be at least 16 ASCII characters long")
    return value


def _signing_keys(value: str) -> tuple[str, ...]:
    keys = _list(value)
    try:
        valid = keys and all(len(b64decode(key, validate=True)) == 32 for key in keys)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a comma-separated list of 32 random bytes in base64: openssl rand -base64 32")
    return keys


def _origins(value: str) -> tuple[str, ...]:
    origins = _list(value.lower())
    if any(origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin) for origin in origins):
        raise ValueError("must be a comma-separated list of origins such as https://app.example.com, or *")
    return origins


def _image_origins(value: str) -> tuple[str, ...]:
    origins = _list(value.lower())
    if any(not re.fullmatch(r"https://[a-z0-9.-]+(:[0-9]+)?", origin) for origin in origins):
        raise ValueError("must be a comma-separated list of origins such as https://images.example.com")
    return origins


def _rate(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}/([1-9][0-9]{0,4} ?)?(second|minute|hour|day)", value):
        raise ValueError("must be a rate such as 600/minute or 20/10second")
    return value


def _rate_limit_storage(value: str) -> str:
    if not re.match(r"memory://|rediss?://|memcached://[^:,/]+:[0-9]+", value):
        raise ValueError("must be memory://, redis://host:6379/0 or memcached://host:11211")
    return value


def _hosts(value: str) -> tuple[str, ...]:
    hosts = _list(value.lower())
    if any(not re.fullmatch(r"\.?[A-Za-z0-9._-]+(:[0-9]+)?", host) for host in hosts):
        raise ValueError("must be a comma-separated list of hosts such as uploads.example.com or .example.com")
    return hosts


def _forwarded_headers(value: str) -> tuple[str, ...]:
    headers = _list(value.lower())
    if not headers or not set(headers) <= FORWARDED_HEADERS:
        raise ValueError(f"must be a comma-separated list of: {', '.join(sorted(FORWARDED_HEADERS))}")
    return headers


def _webhook_secret(value: str) -> str:
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: 24 to 64 bytes.
    try:
        size = len(b64decode(value.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not value.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("must be whsec_ and 24 to 64 random bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return value


def _setting(parse: Callable[[str], Any], default: Any, description: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "description": description})


@dataclass(frozen=True)
class Settings:
    """One field for each environment variable, which has the same name in upper case. See `load`."""

    # The store. Presigned URLs are for S3_PUBLIC_ENDPOINT, if that is set.
    s3_endpoint: str = _setting(_endpoint, "", "URL at which the service reaches the S3 store. Required.")
    s3_bucket: str = _setting(_bucket, "", "Bucket for the uploaded files. Required.")
    s3_public_endpoint: str = _setting(_endpoint, "", "URL at which clients reach the store. Default: `S3_ENDPOINT`.")
    s3_region: str = _setting(_region, "us-east-1", "Region of the bucket, part of every signature.")
    s3_prefix: str = _setting(_prefix, "", "Prefix of every object key, such as `uploads/`.")
    s3_addressing: str = _setting(
        _choice("path", "virtual"), "path", "`path` (host/bucket/key) or `virtual` (bucket.host/key)."
    )
    s3_expected_bucket_owner: str = _setting(
        _account, "", "AWS account that must own the bucket: any request to another's bucket is rejected."
    )
    s3_sse: str = _setting(
        _choice("AES256", "aws:kms"),
        "",
        "Encryption of every object: `AES256` or `aws:kms`. If unset: the bucket's own.",
    )
    s3_sse_kms_key_id: str = _setting(_kms_key, "", "KMS key for `S3_SSE=aws:kms`. If unset: AWS's own for S3.")
    s3_storage_class: str = _setting(
        _choice(*STORAGE_CLASSES), "", "Storage class of verified files, such as `STANDARD_IA`."
    )
    s3_tagging: str = _setting(_tagging, "", "Tags of every object, URL-encoded, such as `team=audio&cost-center=42`.")
    s3_object_metadata: tuple[str, ...] = _setting(
        _object_metadata,
        (),
        "Ids that verified files carry as `x-amz-meta-`: comma-separated `track`, `collection`, `organization`, "
        "`session` (a digest).",
    )
    s3_if_none_match: bool = _setting(
        _flag, False, "`1` if a bucket policy demands `If-None-Match: *` of everything that is written."
    )
    aws_access_key_id: str = _setting(
        _text, "", "S3 credentials. If unset: AWS's chain; see [credentials](aws.md#credentials)."
    )
    aws_secret_access_key: str = _setting(_text, "", "Secret of `AWS_ACCESS_KEY_ID`.", secret=True)
    aws_session_token: str = _setting(_text, "", "Session token of temporary credentials.", secret=True)
    # What the store can do is measured (storage/s3/choices.py): these override it.
    checksum_headers: str = _setting(
        _switch,
        "auto",
        "`0` signs no `x-amz-checksum-` headers and asks for none: files with a declared checksum are then read. "
        "`auto` and `1`: those that the store enforces.",
    )
    write_once_put: str = _setting(
        _switch,
        "auto",
        "`0` ignores `write_once`: every verified file is copied to its final key. `auto` and `1`: if the store honors "
        "`If-None-Match: *`.",
    )
    cover_upload: str = _setting(
        _choice("auto", "form", "put", "relay"),
        "auto",
        "`form` (POST policy), `put` (signed PUT), `relay` (through the service), or `auto`: the first of these that "
        "the store enforces.",
    )
    allow_unsigned_store: bool = _setting(
        _flag, False, "`1` accepts a store that does not check signatures. For tests only."
    )
    store_event_secret: str = _setting(
        _secret,
        "",
        "Secret of the store for `/v1/store_event`: as Bearer token, or at the end of the path.",
        secret=True,
    )
    store_event_topics: tuple[str, ...] = _setting(
        _topics, (), "Comma-separated ARNs of the Amazon SNS topics that may call `/v1/store_event/sns`."
    )

    # The database.
    database_url: str = _setting(
        _database_url, "sqlite:///loadbay.db", "`sqlite:///file.db` or `postgresql://user@host/name`.", secret=True
    )
    create_missing: bool = _setting(_flag, False, "`1` creates tables and bucket at startup. For development only.")

    # Lifetimes and limits.
    session_ttl: int = _setting(
        _number(60, MAX_SESSION_SECONDS), 3600, "Lifetime of a session without `expires_in`, in seconds."
    )
    upload_url_ttl: int = _setting(
        _number(1, MAX_URL_TTL), 3600, "Lifetime of a presigned URL in seconds; it never outlives its session."
    )
    max_track_bytes: int = _setting(
        _number(1, MAX_OBJECT_BYTES), MAX_SINGLE_PUT_BYTES, "Maximum size of a track in bytes."
    )
    max_cover_bytes: int = _setting(_number(1, GIB), 10 * 2**20, "Maximum size of a cover in bytes.")
    max_tracks_per_session: int = _setting(_number(1, 10_000_000), 10_000, "Maximum number of tracks in a session.")
    multipart_threshold_bytes: int = _setting(
        _number(5 * 2**20, MAX_SINGLE_PUT_BYTES),
        MAX_SINGLE_PUT_BYTES,
        "Tracks with more bytes use a multipart upload, unless `multipart` is `false`.",
    )
    rate_limit_sessions: str = _setting(_rate, "", "Sessions per API key, such as `60/minute`.")
    rate_limit_tracks: str = _setting(_rate, "", "Tracks per session, such as `600/minute`.")
    rate_limit_storage: str = _setting(
        _rate_limit_storage,
        "memory://",
        "Counters of the rate limits: `memory://` in each process, or `redis://host:6379/0` for all.",
        secret=True,
    )
    keep_sessions: int | None = _setting(
        _number(1, 36_500),
        None,
        "Days for which rows are kept after their session was swept. If unset: for ever, except for sessions and "
        "tracks that came to nothing, which are kept for 30 days. Files are not deleted.",
    )
    sweep_interval: int = _setting(_number(60, 604_800), 3600, "Seconds between two sweeps of the worker.")

    # Access.
    api_keys: tuple[str, ...] = _setting(_keys, (), "Comma-separated API keys with the `full` role.", secret=True)
    built_assets: bool = _setting(_flag, True, "`0` serves pages from `static/` as it is, for whoever works on them.")
    owner_page: bool = _setting(
        _flag, True, "`0` keeps the page off `/` on which whoever has a full API key makes links and sees what came."
    )
    allow_anonymous: bool = _setting(_flag, False, "`1` lets anyone create sessions. For development only.")
    cors_origins: tuple[str, ...] = _setting(
        _origins, (), "Comma-separated origins whose pages may call the API from another site, or `*`."
    )
    trusted_proxies: int = _setting(
        _number(0, 10), 0, "Number of proxies in front whose `X-Forwarded-*` headers are trusted."
    )
    # Without host and prefix: the routers of some platforms pass on what a client sends in them.
    trusted_proxy_headers: tuple[str, ...] = _setting(
        _forwarded_headers,
        ("for", "proto", "port"),
        "The `X-Forwarded-*` headers that all of these proxies set or remove.",
    )
    trusted_hosts: tuple[str, ...] = _setting(
        _hosts, (), "Comma-separated host names that are accepted in `Host`. If unset: any."
    )

    # Upload pages.
    page_folder: str = _setting(
        _text,
        "",
        "Folder with the defaults of upload pages (`page.json`, `<organization id>.json`) and their images; see "
        "[the page](upload-page.md#whose-page-it-is).",
    )
    page_image_origins: tuple[str, ...] = _setting(
        _image_origins,
        (),
        "Comma-separated origins whose images upload pages may show, such as `https://img.example.com`.",
    )

    receipt_keys: tuple[str, ...] = _setting(
        _signing_keys,
        (),
        "Comma-separated Ed25519 keys (32 bytes in base64) of receipts: the first signs, the public keys of all are "
        "published. If unset: one that is in the database.",
        secret=True,
    )

    # Webhooks.
    webhook_url: str = _setting(_text, "", "URL that receives events, for a deploy without organizations.", secret=True)
    webhook_secret: str = _setting(
        _webhook_secret, "", "Secret that signs the events of `WEBHOOK_URL`: `whsec_...`.", secret=True
    )
    webhook_allow_private: bool = _setting(
        _flag, False, "`1` allows webhooks to private addresses and over `http://`. For development only."
    )

    webhook_proxy: str = _setting(
        _proxy,
        "",
        "Proxy for webhooks, such as `http://user:password@proxy:3128`. It must refuse private addresses: see "
        "[webhooks](webhooks.md#a-proxy).",
        secret=True,
    )
    signals: bool = _setting(
        _flag,
        False,
        "`1` also sends the events to receivers in the worker's process; see [embedding](embedding.md#signals).",
    )

    # Operations.
    metrics_token: str = _setting(
        _secret, "", "Bearer token for `/metrics`. If unset, the route does not exist.", secret=True
    )
    log_requests: bool = _setting(_flag, False, "`1` logs every request. gunicorn.conf.py sets it.")
    log_format: str = _setting(_choice("text", "json"), "text", "`text` or `json`. gunicorn.conf.py sets `json`.")

    @classmethod
    def load(cls, source: Mapping[str, object]) -> Settings:
        """Read the settings from `source` (the environment, or a mapping with the same upper-case names).

        An empty value counts as unset, because some platforms cannot unset a variable. Raises SettingsError.
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
                raise SettingsError(f"{name} {e}.") from None
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        for name in ("s3_endpoint", "s3_bucket"):
            if not getattr(self, name):
                raise SettingsError(f"{name.upper()} must be set.")
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise SettingsError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together.")
        self._check_access_point()
        if self.s3_sse_kms_key_id and self.s3_sse != "aws:kms":
            raise SettingsError("S3_SSE_KMS_KEY_ID requires S3_SSE=aws:kms.")
        if bool(self.webhook_url) != bool(self.webhook_secret):
            raise SettingsError("WEBHOOK_URL and WEBHOOK_SECRET must be set together.")
        try:
            url_guard.parse_webhook_url(self.webhook_url or "https://localhost", self.webhook_allow_private)
        except InvalidRequest as e:
            raise SettingsError(f"WEBHOOK_URL {e.message.removeprefix('url: ')}") from None
        if self.aws_session_token and not self.aws_access_key_id:
            raise SettingsError("AWS_SESSION_TOKEN requires AWS_ACCESS_KEY_ID.")

    def _check_access_point(self) -> None:
        """Raise SettingsError where the endpoint is one of access points, and bucket or addressing do not fit it."""
        for name in ("s3_endpoint", "s3_public_endpoint"):
            service, _, rest = (urlsplit(getattr(self, name)).hostname or "").partition(".")
            if not service.startswith("s3-accesspoint") and rest.startswith("s3-accesspoint"):
                raise SettingsError(
                    f"{name.upper()} must not have the access point's name: set https://{rest} and S3_BUCKET={service}."
                )
            if service.startswith("s3-accesspoint") and self.s3_addressing != "virtual":
                raise SettingsError(f"S3_ADDRESSING must be virtual for the access points of {name.upper()}.")
