"""Names that users see. Changing one breaks a client, a dashboard or a deployment: each is pinned here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

import loadbay_client
from commands import LazyCommand
from loadbay_client.cli import loadbay, upload
from storage.db.models import MODELS
from storage.errors import FAILURES, ServiceError
from storage.settings import Settings
from storage.uploads.sweeper import SweepSummary
from storage.webhooks.outbox import EVENTS
from support.api import new_session, upload_track
from support.processes import ROOT

pytestmark = pytest.mark.sqlite

TOKEN = "a-token-of-the-tests"

# --- The API ---


ERROR_CODES = {
    "api_key_not_found", "byte_limit_reached", "database_unavailable", "forbidden", "idempotency_key_reused",
    "internal_error", "invalid_request", "key_limit_reached", "not_json", "not_uploaded", "session_closed",
    "session_expired", "session_not_found", "session_open",
    "storage_rejected", "storage_unavailable", "too_large", "too_many_requests",
    "track_limit_reached", "track_not_found", "track_state_conflict", "unauthorized", "unsupported_media_type",
    "webhook_not_found",
}  # fmt: skip
FAILURE_CODES = {
    "checksum_mismatch", "empty_file", "file_too_large", "not_an_image", "not_audio", "replaced", "rule_bit_depth",
    "rule_channels", "rule_codec", "rule_container", "rule_dimensions", "rule_duration", "rule_file_size",
    "rule_sample_rate", "rule_square", "rule_type", "sender_headers", "size_mismatch", "unreadable",
    "write_once_untrusted",
}  # fmt: skip
RESPONSE_KEYS = {
    "UploadSession": (
        "id", "creator_id", "collection_id", "organization_index", "metadata", "status", "created_at", "expires_at",
        "max_tracks", "max_bytes", "rules", "page", "fields", "embedded_cover", "track_count", "tracks",
        "declared_bytes", "uploaded_bytes",
    ),
    "Manifest": ("tracks", "next_after"),
    "Track": (
        "id", "upload_session_id", "collection_id", "creator_id", "index", "path", "cover_path", "status", "failure",
        "failure_code", "file_name", "organization_index", "metadata", "file_size", "content_type", "checksum_sha256",
        "checksum_crc64nvme", "checksum_crc32c", "resume_key", "size", "etag", "version_id", "detected_type", "audio",
        "integrity",
        "verified_at", "cover",
    ),
    "Audio": (
        "container", "codec", "duration", "exact", "sample_rate", "channels", "bit_depth", "bit_rate", "tags",
        "picture",
    ),
    "AudioTags": ("title", "artist", "album", "track_number", "disc_number", "isrc"),
    "EmbeddedPicture": ("type", "size"),
    "Cover": (
        "path", "status", "failure", "failure_code", "content_type", "size", "etag", "width", "height", "embedded",
    ),
    "Upload": ("method", "upload_url", "ttl", "expires_at", "headers"),
    "CoverUpload": ("method", "upload_url", "ttl", "expires_at", "headers", "fields"),
    "MultipartUpload": ("method", "part_size", "part_count", "ttl", "expires_at", "parts"),
    "Part": ("part_number", "upload_url", "size", "headers"),
    "Download": ("method", "download_url", "ttl", "expires_at"),
    "ApiKey": (
        "id", "prefix", "name", "role", "organization_id", "collection_id", "rules", "page", "max_bytes_per_day",
        "max_open_sessions", "created_at", "expires_at",
    ),
    "Page": (
        "title", "sender", "greeting", "logo_url", "background_url", "accent_color", "terms_url", "privacy_url",
        "help_url", "language", "allow_changes",
    ),
    "Field": ("name", "label", "required", "one_of"),
    "Rules": ("audio", "cover"),
    "AudioRules": (
        "containers", "codecs", "sample_rates", "bit_depths", "channels", "min_duration", "max_duration",
        "max_file_size",
    ),
    "CoverRules": ("types", "square", "min_side", "max_side"),
    "Error": ("ok", "api_request_id", "message", "code", "errors"),
}  # fmt: skip
REQUEST_KEYS = {
    "CreateUploadSession": (
        "collection_id", "creator_id", "organization_index", "metadata", "expires_in", "max_tracks", "max_bytes",
        "rules", "page", "fields", "embedded_cover", "track",
    ),
    "CreateTrack": (
        "file_name", "organization_index", "metadata", "file_size", "content_type", "checksum_sha256",
        "checksum_crc64nvme", "checksum_crc32c", "write_once", "cover_fields", "cover_size", "cover_content_type",
        "multipart", "part_size", "resume_key",
    ),
    "ChangeUploadSession": (
        "expires_at", "expires_in", "metadata", "max_tracks", "max_bytes", "rules", "page", "fields",
    ),
    "ChangeTrack": ("file_name", "metadata"),
    "CompleteTracks": ("track_ids",),
    "CreateApiKey": (
        "name", "collection_id", "role", "expires_in", "rules", "page", "max_bytes_per_day", "max_open_sessions",
    ),
}  # fmt: skip
TRACK_EVENT_KEYS = {
    "upload_session_id", "track_id", "collection_id", "status", "path", "file_name", "file_size", "size",
    "content_type", "detected_type", "audio", "checksum_sha256", "checksum_crc64nvme", "checksum_crc32c", "integrity",
    "etag", "failure", "failure_code", "organization_index", "index", "metadata",
}  # fmt: skip
SESSION_EVENT_KEYS = {
    "upload_session_id", "collection_id", "status", "creator_id", "organization_index", "rules", "track_count",
    "uploaded", "failed", "expired", "cancelled", "uploaded_bytes", "metadata",
}  # fmt: skip


def subclasses(error: type[Exception]) -> set[type[Exception]]:
    """Return an exception class and all that derive from it."""
    return {error}.union(*map(subclasses, error.__subclasses__()))


def test_error_codes_are_pinned():
    """The codes of errors are those that clients compare with."""
    assert {error.code for error in subclasses(ServiceError)} == ERROR_CODES


def test_failure_codes_are_pinned():
    """The codes of failures are those that clients compare with, and the code has no others."""
    assert set(FAILURES) == FAILURE_CODES
    sources = "".join(path.read_text() for path in (ROOT / "storage").rglob("*.py"))
    assert set(re.findall(r'\bFailure\(\s*"(\w+)"', sources)) == FAILURE_CODES


def test_keys_of_requests_and_responses_are_pinned(client):
    """Sessions, tracks, covers, uploads, keys, errors and the manifest have exactly these keys."""
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    for name, keys in {**RESPONSE_KEYS, **REQUEST_KEYS}.items():
        assert set(schemas[name]["properties"]) == set(keys), name


def test_keys_of_webhook_events_are_pinned():
    """The types of events and the keys of their data are those that receivers read."""
    assert {name: set(event.fields) for name, event in EVENTS.items()} == {
        "track.uploaded": TRACK_EVENT_KEYS,
        "track.failed": TRACK_EVENT_KEYS,
        "track.expired": TRACK_EVENT_KEYS,
        "upload_session.completed": SESSION_EVENT_KEYS,
    }


# --- Operations ---

SETTINGS = {
    "S3_EXPECTED_BUCKET_OWNER", "S3_IF_NONE_MATCH", "S3_OBJECT_METADATA", "S3_SSE", "S3_SSE_KMS_KEY_ID",
    "S3_STORAGE_CLASS", "S3_TAGGING",
    "S3_ENDPOINT", "S3_BUCKET", "S3_PUBLIC_ENDPOINT", "S3_REGION", "S3_PREFIX", "S3_ADDRESSING", "AWS_ACCESS_KEY_ID",
    "ALLOW_UNSIGNED_STORE",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WRITE_ONCE_PUT", "COVER_UPLOAD", "STORE_EVENT_SECRET",
    "STORE_EVENT_TOPICS", "DATABASE_URL", "CREATE_MISSING", "SESSION_TTL", "UPLOAD_URL_TTL", "MAX_TRACK_BYTES",
    "MAX_COVER_BYTES", "MAX_TRACKS_PER_SESSION", "MULTIPART_THRESHOLD_BYTES", "RATE_LIMIT_SESSIONS",
    "RATE_LIMIT_TRACKS", "RATE_LIMIT_STORAGE", "KEEP_SESSIONS", "SWEEP_INTERVAL", "API_KEYS", "ALLOW_ANONYMOUS",
    "CHECKSUM_HEADERS", "CORS_ORIGINS", "TRUSTED_PROXIES", "TRUSTED_PROXY_HEADERS", "TRUSTED_HOSTS",
    "WEBHOOK_URL", "WEBHOOK_SECRET", "WEBHOOK_ALLOW_PRIVATE", "WEBHOOK_PROXY", "SIGNALS",
    "METRICS_TOKEN", "LOG_REQUESTS", "LOG_FORMAT", "PAGE_FOLDER", "PAGE_IMAGE_ORIGINS", "BUILT_ASSETS", "OWNER_PAGE",
    "RECEIPT_KEYS",
}  # fmt: skip
COMMANDS = {
    "copy-database": {"url"},
    "create-key": {
        "--collection", "--expires", "--max-bytes-per-day", "--max-open-sessions", "--name", "--organization", "--page",
        "--role", "--rules",
    },
    "doctor": {"--conformance", "--fix", "--json", "--origin", "--policy"},
    "forget": {
        "--collection", "--creator", "--dry-run", "--list", "--objects", "--organization", "--session", "--yes",
    },
    "list-keys": set(),
    "prepare": set(),
    "revoke-key": {"key"},
    "sweep": {"--audit", "--delete", "--dry-run", "--json"},
    "webhooks add": {"--organization", "url"},
    "webhooks dead-letters": set(),
    "webhooks list": set(),
    "webhooks remove": {"webhook"},
    "webhooks replay": {"--all", "--webhook", "delivery"},
    "webhooks test": {"webhook"},
    "worker": {"--no-notice", "--no-sweep"},
}  # fmt: skip
SWEEP_COUNTS = [
    "sessions", "uploaded", "failed", "expired", "covers", "objects_removed", "uploads_aborted",
    "idempotency_keys_purged", "sessions_deleted", "tracks_deleted", "dead_letters_purged",
]  # fmt: skip
METRICS = {
    "loadbay_http_request_duration_seconds": {"method", "route", "status"},
    "loadbay_presigned_urls": {"method"},
    "loadbay_verifications": {"kind", "outcome"},
    "loadbay_verified_bytes": {"kind"},
    "loadbay_store_request_duration_seconds": {"call", "outcome"},
    "loadbay_database_up": set(),
    "loadbay_upload_sessions": set(),
    "loadbay_tracks": {"status"},
    "loadbay_uploaded_bytes": set(),
    "loadbay_webhook_deliveries": {"state"},
    "loadbay_webhook_oldest_seconds": set(),
}
STORE_CALLS = {
    "AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateBucket", "CreateMultipartUpload",
    "DeleteObject", "DeleteObjects", "GetBucketCors", "GetBucketLifecycleConfiguration", "GetObject", "HeadBucket",
    "GetBucketVersioning", "HeadObject", "ListMultipartUploads", "ListObjectsV2", "ListParts", "PutBucketCors",
    "PutBucketLifecycleConfiguration", "PutObject",
}  # fmt: skip
COLUMNS = {
    "loadbay_upload_session": {
        "seq", "id", "organization_id", "collection_id", "creator_id", "organization_index", "metadata", "rules",
        "page", "fields", "urls_expire_at",
        "embedded_cover", "status", "created_at", "expires_at", "max_tracks", "max_bytes", "max_file_size",
        "track_count", "declared_bytes", "initialized", "uploaded", "failed", "expired", "cancelled", "uploaded_bytes",
        "swept_at", "api_key_seq",
    },
    "loadbay_track": {
        "seq", "id", "session_seq", "status", "created_at", "path", "cover_path", "file_name", "organization_index",
        "metadata", "file_size", "content_type", "checksum_sha256", "checksum_crc64nvme", "checksum_crc32c",
        "cover_fields", "declared_cover_size", "declared_cover_type", "cover_relayed", "write_once", "upload_id",
        "part_size", "resume_key", "attempt", "cover_attempt",
        "next_cover_expires_at", "chosen_source", "chosen_etag", "integrity", "cover_chosen_etag", "lease",
        "lease_expires_at", "verify_attempts", "checks", "failure", "failure_code", "size", "etag", "version_id",
        "detected_type",
        "audio", "audio_container", "audio_codec", "audio_duration", "picture_offset", "picture_size", "verified_at",
        "cover_embedded",
        "cover_status", "cover_failure", "cover_failure_code", "cover_size", "cover_etag", "cover_type", "cover_width",
        "cover_height", "cover_rejected_etag",
    },
    "loadbay_idempotency_key": {"digest", "fingerprint", "session_id", "track_ids", "created_at"},
    "loadbay_api_key": {
        "seq", "id", "prefix", "digest", "name", "role", "organization_id", "collection_id", "rules", "page",
        "created_at", "expires_at", "revoked_at", "max_bytes_per_day", "max_open_sessions", "used_day", "used_bytes",
    },
    "loadbay_webhook": {
        "seq", "id", "organization_id", "url", "secret", "enabled", "created_at", "failures", "failing_since",
        "retry_at",
    },
    "loadbay_webhook_delivery": {
        "seq", "id", "webhook_seq", "session_seq", "track_seq", "type", "data", "metadata", "created_at", "due_at",
        "lease", "attempts", "error",
    },
    "loadbay_job": {"name", "due_at", "position"},
    "loadbay_removal": {"seq", "key", "upload_id", "etag", "due_at", "attempts", "created_at"},
    "loadbay_deployment": {"id", "receipt_seed"},
    "loadbay_store": {"endpoint", "bucket", "measured_at", "abilities", "fingerprint"},
}  # fmt: skip


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command of a group by its full name, with its options and arguments."""
    for name, command in group.commands.items():
        command = command.command if isinstance(command, LazyCommand) else command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            options = (param.opts if isinstance(param, click.Option) else [param.name] for param in command.params)
            yield f"{prefix}{name}", {str(option) for names in options for option in names}


def test_settings_are_pinned():
    """The settings are those that deployments set."""
    assert {item.name.upper() for item in fields(Settings)} == SETTINGS


def test_commands_and_options_are_pinned(app):
    """The commands of `flask`, with their options and arguments, are those that scripts call."""
    assert dict(commands(app.cli)) == COMMANDS


def test_sweep_report_is_pinned():
    """`flask sweep` and the worker's log report these counts."""
    assert [item.name for item in fields(SweepSummary)] == SWEEP_COUNTS


def test_metrics_and_labels_are_pinned(make_client):
    """The metrics and their labels are those that dashboards query."""
    client = make_client(METRICS_TOKEN=TOKEN)
    upload_track(client, new_session(client)["upload_session_id"])
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        names = {name for sample in family.samples for name in sample.labels}
        labels[family.name] = labels.get(family.name, set()) | names - {"le"}
    assert labels == METRICS


def test_store_calls_have_the_names_of_s3():
    """The label `call` has the names of S3's operations."""
    source = "".join((ROOT / "storage" / "s3" / name).read_text() for name in ("bucket.py", "dialects.py"))
    assert set(re.findall(r'(?:_observed_call|= Listing)\(\s*"(\w+)"', source)) == STORE_CALLS


def test_tables_and_columns_are_pinned():
    """The tables and columns are those of the first release; a migration adds to them."""
    assert {
        model._meta.table_name: {field.column_name for field in model._meta.sorted_fields} for model in MODELS
    } == COLUMNS


# --- The client and the component ---

CLIENT_EXCEPTIONS = {
    "ClientError": "client_error",
    "APIError": "client_error",
    "ConnectionFailed": "connection_failed",
    "FileError": "file_error",
    "StoreError": "storage_rejected",
    "UploadCancelled": "upload_cancelled",
    "VerificationFailed": "verification_failed",
}
"""The exceptions and their codes. The code of an APIError is that of the service's error."""
CLIENT_OPTIONS = ["server", "key", "multipart_threshold", "part_size", "max_attempts", "on_retry"]
CLIENT_COMMANDS = {
    "completion": {"shell"},
    "get": {"--json", "--key", "--quiet", "--server", "-q", "folder", "session"},
    "link": {"--collection", "--expires", "--key", "--max-tracks", "--sender", "--server", "--title"},
    "ls": {"--json", "--server", "session"},
    "upload": {
        "--collection", "--dry-run", "--exclude", "--include", "--json", "--key", "--multipart-threshold",
        "--parallel", "--quiet", "--resume", "--server", "-q", "paths",
    },
}  # fmt: skip
CLIENT_VARIABLES = {"LOADBAY_SERVER", "LOADBAY_KEY"}
SESSION_METHODS = {
    "cancel", "check", "close", "is_open", "register", "rules", "send", "send_cover", "tracks", "upload", "upload_all",
}  # fmt: skip
CSS_VARIABLES = {
    "--loadbay-accent", "--loadbay-background", "--loadbay-border", "--loadbay-danger", "--loadbay-font",
    "--loadbay-on-accent", "--loadbay-radius", "--loadbay-success", "--loadbay-text", "--loadbay-text-muted",
}  # fmt: skip
ATTRIBUTES = {"session", "server", "part-size", "retry-delay", "finish"}
ELEMENT_EVENTS = {
    "file-added", "file-cancelled", "file-failed", "file-uploaded", "session-changed", "session-complete",
    "session-expired", "session-progress",
}  # fmt: skip
ELEMENT_MEMBERS = {
    "session", "server", "partSize", "retryDelay", "finish", "messages", "addFiles", "start", "pause", "clear",
}  # fmt: skip
CALLBACKS = {"constructor", "connectedCallback", "attributeChangedCallback", "disconnectedCallback"}
ELEMENT_SLOTS = {"heading", "hint", "end"}
ELEMENT_PARTS = {
    "notice", "drop-zone", "heading", "hint", "button", "primary-button", "summary", "headline", "progress", "file",
    "cover", "status", "note", "received", "expiry",
}  # fmt: skip


def test_exceptions_of_the_client_are_pinned():
    """The client's exceptions and their codes are those that programs catch."""
    exported = {name: getattr(loadbay_client, name) for name in loadbay_client.__all__}
    classes = {name: value for name, value in exported.items() if isinstance(value, type)}
    assert {
        name: value.code for name, value in classes.items() if issubclass(value, loadbay_client.ClientError)
    } == CLIENT_EXCEPTIONS


def test_options_and_methods_of_the_client_are_pinned():
    """The client's options, methods and environment variables are those that programs use."""
    assert [item.name for item in fields(loadbay_client.Client)] == CLIENT_OPTIONS
    assert {name for name in vars(loadbay_client.Session) if not name.startswith("_")} == SESSION_METHODS
    assert dict(commands(loadbay)) == CLIENT_COMMANDS
    assert {param.envvar for param in upload.params if isinstance(param, click.Option)} - {None} == CLIENT_VARIABLES


def test_css_variables_are_pinned():
    """The component's CSS variables are those that host pages set."""
    style = (ROOT / "static" / "uploader.css").read_text()
    assert set(re.findall(r"var\((--loadbay-[a-z-]+)", style)) == CSS_VARIABLES


def test_attributes_and_events_of_the_component_are_pinned():
    """The component's attributes and events are those that host pages use."""
    component = (ROOT / "static" / "uploader.js").read_text()
    attributes = re.findall(r'(?:getAttribute|hasAttribute|#number)\("([a-z-]+)"', component)
    assert set(attributes) == ATTRIBUTES
    scripts = "".join(path.read_text() for path in (ROOT / "static").glob("*.js"))
    assert set(re.findall(r'\bemit\("([a-z-]+)"', scripts)) == ELEMENT_EVENTS
    assert (
        set(re.findall(r"^  (?:get |async )?([a-z]\w+)\(.*\{$", component, re.MULTILINE)) - CALLBACKS == ELEMENT_MEMBERS
    )
    assert set(re.findall(r'h\("slot", \{ name: "([a-z]+)"', component)) == ELEMENT_SLOTS
    parts = " ".join([*re.findall(r'\bpart: "([a-z -]+)"', scripts), "file"]).split()
    assert set(parts) == ELEMENT_PARTS


def test_types_of_the_component_have_its_names():
    """The types of the npm package name every member, event, slot and part, and no other member or event."""
    types = (ROOT / "loadbay_uploader" / "uploader.d.ts").read_text()
    assert set(re.findall(r'^  "([a-z-]+)": \{', types, re.MULTILINE)) == ELEMENT_EVENTS
    body = types.partition("class LoadbayUploader")[2]
    members = set(re.findall(r"^  (?:get )?([a-z]\w+)(?:\(\w*\)?|:)", body, re.MULTILINE)) - {"addEventListener"}
    assert members == ELEMENT_MEMBERS
    assert [name for name in ELEMENT_SLOTS | ELEMENT_PARTS if f"`{name}`" not in types] == []
    page = (ROOT / "docs" / "upload-page.md").read_text()
    names = ELEMENT_SLOTS | ELEMENT_PARTS | ELEMENT_EVENTS | ELEMENT_MEMBERS
    assert [name for name in names if not re.search(rf"`{name}[`(]", page)] == []
