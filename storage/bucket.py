"""Every call to the store. Nothing else talks to it, and no error of minio's or urllib3's leaves here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    IamAwsProvider,
    Provider,
    StaticProvider,
)
from minio.error import MinioException, S3Error

from .errors import StoreRefused, StoreUnavailable
from .presign import Credentials
from .settings import Settings

logger = logging.getLogger("loadbay.store")

# Together under two seconds: a caller learns soon that the store is away.
QUICK = urllib3.Timeout(connect=0.8, read=1.1)
PATIENT = urllib3.Timeout(connect=0.8, read=120)
MISSING = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")


def _provider(settings: Settings) -> Provider:
    """Credentials from the settings, else from the machine (environment, AWS's files, the instance's role)."""
    if settings.aws_access_key_id:
        token = settings.aws_session_token or None
        return StaticProvider(settings.aws_access_key_id, settings.aws_secret_access_key, token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])


class Bucket:
    """One bucket. Every method raises StoreUnavailable or StoreRefused beside what it says itself."""

    def __init__(self, settings: Settings):
        self.name = settings.s3_bucket
        self._provider = _provider(settings)
        self._static: Credentials | None = None
        if settings.aws_access_key_id:
            token = settings.aws_session_token or None
            self._static = (settings.aws_access_key_id, settings.aws_secret_access_key, token)
        self._quick = self._client(settings, QUICK)
        self._patient = self._client(settings, PATIENT)

    def _client(self, settings: Settings, timeout: urllib3.Timeout) -> Minio:
        endpoint = urlsplit(settings.s3_endpoint)
        client = Minio(
            endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=settings.s3_region,
            credentials=self._provider,
            # Without retries: a store that is away is the caller's to hear of, not to wait for.
            http_client=urllib3.PoolManager(timeout=timeout, maxsize=16, retries=False),
        )
        if settings.s3_addressing == "virtual":
            client.enable_virtual_style_endpoint()
        else:
            client.disable_virtual_style_endpoint()
        return client

    def credentials(self) -> Credentials:
        """What requests are signed with. No network call, but for a role whose credentials have run out."""
        if self._static is not None:
            return self._static
        with _translated("credentials"):
            found = self._provider.retrieve()
        return found.access_key, found.secret_key, found.session_token

    def ensure(self) -> bool:
        """Create the bucket where it is missing; True when it was."""
        with _translated("create bucket"):
            if self._quick.bucket_exists(self.name):
                return False
            self._quick.make_bucket(self.name)
            return True

    def put(self, key: str, stream: BinaryIO, size: int, content_type: str) -> None:
        """Write `size` bytes (one PUT, at most 5 GiB) to `key`."""
        with _translated("put"):
            # One part: the store writes all of it or nothing.
            self._patient.put_object(self.name, key, stream, size, content_type, part_size=max(size, 5 * 2**20))


@contextmanager
def _translated(call: str) -> Iterator[None]:
    """Turn the libraries' errors into ours, and log what the store said without what we sent."""
    try:
        yield
    except S3Error as e:
        logger.error("The store refused '%s': %s", call, e.code)
        raise StoreRefused from e
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as e:
        logger.error("The store is away for '%s': %s", call, type(e).__name__)
        raise StoreUnavailable from e
    except ValueError as e:
        # minio's providers say so when they find no credentials anywhere.
        logger.error("The store cannot be asked for '%s': %s", call, type(e).__name__)
        raise StoreRefused from e
