"""Settings: validation at startup, defaults and secrets."""

from __future__ import annotations

import pytest

from app import create_app
from storage.db.connection import open_database
from storage.settings import Settings, SettingsError

pytestmark = pytest.mark.sqlite

VALID = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "tracks"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_ENDPOINT", ""),
        ("S3_ENDPOINT", "s3.example.com"),
        ("S3_ENDPOINT", "http://user:pass@s3.example.com"),
        ("S3_ENDPOINT", "https://s3.example.com/path"),
        ("S3_ENDPOINT", "https://s3.example.com:port"),
        ("S3_BUCKET", ""),
        ("S3_BUCKET", "Tracks!"),
        ("S3_BUCKET", "tra..cks"),
        ("S3_BUCKET", "192.168.1.1"),
        ("S3_REGION", "eu/west"),
        ("S3_PUBLIC_ENDPOINT", "ftp://s3.example.com"),
        ("S3_PREFIX", "../up"),
        ("S3_PREFIX", "."),
        ("S3_PREFIX", "a/./b"),
        ("S3_ADDRESSING", "host"),
        ("AWS_ACCESS_KEY_ID", "alone"),
        ("AWS_SECRET_ACCESS_KEY", "alone"),
        ("AWS_SESSION_TOKEN", "alone"),
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "postgresql://user:pass/word@host/name"),
        ("DATABASE_URL", "postgresql://user@host:0/name"),
        ("SESSION_TTL", "59"),
        ("SESSION_TTL", "2592001"),
        ("UPLOAD_URL_TTL", "0"),
        ("UPLOAD_URL_TTL", "1h"),
        ("MAX_TRACK_BYTES", "-1"),
        ("MAX_COVER_BYTES", "many"),
        ("MAX_TRACKS_PER_SESSION", "0"),
        ("MULTIPART_THRESHOLD_BYTES", "1"),
        ("CHECKSUM_HEADERS", "maybe"),
        ("WRITE_ONCE_PUT", "maybe"),
        ("COVER_UPLOAD", "both"),
        ("API_KEYS", "short"),
        ("ALLOW_ANONYMOUS", "perhaps"),
        ("CORS_ORIGINS", "example.com"),
        ("STORE_EVENT_SECRET", "short"),
        ("METRICS_TOKEN", "short"),
        ("LOG_REQUESTS", "sometimes"),
        ("LOG_FORMAT", "xml"),
        ("CREATE_MISSING", "x"),
    ],
)
def test_rejects_invalid_settings(name, value):
    """An invalid setting aborts the start with an error that names it."""
    with pytest.raises(SettingsError, match=rf"^{name} must be|^\w+ and \w+ must be set together|^{name} requires"):
        create_app({**VALID, name: value})


def test_rejects_an_unknown_option_of_the_rate_limit_storage():
    """An unknown option of RATE_LIMIT_STORAGE is rejected at startup, not by the first request."""
    settings = {"RATE_LIMIT_SESSIONS": "1/minute", "RATE_LIMIT_STORAGE": "redis://127.0.0.1:1/0?ssl_cert_reqs=none"}
    with pytest.raises(SettingsError, match="RATE_LIMIT_STORAGE"):
        create_app({**VALID, **settings})


def test_hosts_and_origins_are_lowercased():
    """Hosts and origins are compared in lower case."""
    settings = Settings.load({**VALID, "TRUSTED_HOSTS": "Example.com", "CORS_ORIGINS": "https://App.example.com, *"})
    assert settings.trusted_hosts == ("example.com",)
    assert settings.cors_origins == ("https://app.example.com", "*")


def test_decodes_credentials_of_the_database_url():
    """The user and password of DATABASE_URL may be percent-encoded."""
    database = open_database("postgresql://load%40bay:p%2Fss%25@127.0.0.1:5/name")
    assert (database.connect_params["user"], database.connect_params["password"]) == ("load@bay", "p/ss%")


def test_empty_values_are_unset():
    """An empty value is treated as unset, since some platforms cannot unset variables."""
    assert Settings.load({**VALID, "SESSION_TTL": "", "S3_PREFIX": " "}) == Settings.load(VALID)


def test_repr_shows_no_secrets():
    """The representation of the settings contains no secrets."""
    secrets = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret-one",
        "AWS_SESSION_TOKEN": "secret-two",
        "API_KEYS": "secret-three-0123456789",
        "STORE_EVENT_SECRET": "secret-four-0123456789",
        "METRICS_TOKEN": "secret-six-0123456789",
        "DATABASE_URL": "postgresql://user:secret-five@host/db",
    }
    assert "secret-" not in repr(Settings.load({**VALID, **secrets}))
