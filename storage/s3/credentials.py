"""Credentials that are not in the settings: AWS's chain, renewed before they expire.

With botocore installed (`pip install 'loadbay[aws]'`) the chain is botocore's, with SSO, `credential_process` and roles
of profiles. Without it, it is minio's: environment, credentials file, web identity (EKS), container (ECS) and instance
(EC2). https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
"""

from __future__ import annotations

import configparser
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC
from importlib.util import find_spec
from threading import Lock, Thread
from typing import TYPE_CHECKING

import urllib3

from storage.clock import now as clock_now
from storage.http import waiting

if TYPE_CHECKING:
    from minio.credentials.credentials import Credentials
    from minio.credentials.providers import Provider
else:
    # minio is imported by what looks credentials up: a deploy with keys in its settings does not need it.
    Provider = object

logger = logging.getLogger("loadbay.store")

LAST_MINUTE = 60
"""Seconds before their expiry in which credentials are renewed before anything is signed with them."""

MIN_RENEWAL_INTERVAL = 60
"""Seconds between two attempts to renew credentials that are still good. An instance's are the same until its role has
new ones."""

RETRY_AFTER = 5
"""Seconds for which a failed lookup is not repeated: every request would wait for it."""

LOOKUP_TIMEOUT = urllib3.Timeout(connect=1, read=5)
NO_BOTOCORE = "SSO, credential_process and roles of profiles need a package: pip install 'loadbay[aws]'."


class CredentialsNotFound(ValueError):
    """The chain has no credentials, or its service did not give any."""


class CredentialChain(Provider):
    """The chain's credentials, shared by all threads.

    Half-way to their expiry they are renewed by a thread, so that no request waits, and URLs signed with them can be
    long; in the last minute, by whoever needs them. `fetch` asks the chain anew.
    """

    def __init__(self, region: str, fetch: Callable[[str], Credentials] | None = None):
        self._region, self._fetch = region, fetch or fetch_credentials
        self._current: Credentials | None = None
        self.expires_at: int | None = None
        self._renew_at: float = 0
        self._failed_at: float = 0
        self._waiting, self._renewing = Lock(), Lock()

    def retrieve(self) -> Credentials:
        """Return credentials that have not expired. Raises CredentialsNotFound, and errors of the network."""
        current = self._current
        if current is None or (self.expires_at is not None and self.expires_at - clock_now() <= LAST_MINUTE):
            return self._retrieve_new()
        if clock_now() >= self._renew_at and self._renewing.acquire(blocking=False):
            self._renew_at = clock_now() + MIN_RENEWAL_INTERVAL
            Thread(target=self._renew_in_background, name="credential-renewal", daemon=True).start()
        return current

    def _retrieve_new(self) -> Credentials:
        waiting.announce()
        with self._waiting:
            # Another thread may have renewed them while this one waited.
            left = (self.expires_at or 0) - clock_now()
            if self._current is not None and (self.expires_at is None or left > LAST_MINUTE):
                return self._current
            if clock_now() - self._failed_at < RETRY_AFTER:
                if self._current is not None and left > 0:
                    return self._current
                raise CredentialsNotFound("no credentials")
            try:
                return self._renew()
            except Exception as e:
                self._failed_at = clock_now()
                logger.error("The credentials of the store cannot be looked up (%s). %s", describe(e), _advice())
                if self._current is None or left <= 0:
                    raise
                return self._current

    def _renew(self) -> Credentials:
        credentials, now = self._fetch(self._region), clock_now()
        until = credentials.expiration
        expires_at = int(until.replace(tzinfo=UTC).timestamp()) if until else None
        if expires_at is not None and expires_at <= now:
            raise CredentialsNotFound("the credentials have expired")
        self._current, self.expires_at = credentials, expires_at
        self._renew_at = now + max(MIN_RENEWAL_INTERVAL, (expires_at - now) / 2) if expires_at else float("inf")
        return credentials

    def _renew_in_background(self) -> None:
        try:
            self._renew()
        except Exception as e:
            logger.warning("The credentials of the store were not renewed (%s): trying again.", describe(e))
        finally:
            self._renewing.release()


def static_provider(credentials: tuple[str, str, str | None]) -> Provider:
    """Return the provider of the settings' own credentials."""
    from minio.credentials.providers import StaticProvider

    return StaticProvider(*credentials)


def describe(error: Exception) -> str:
    """Return the class of an error and AWS's code for it. Its message may have a token in it."""
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, Mapping) else ""
    return f"{type(cause).__name__} {code}".strip()


def _advice() -> str:
    return "Set AWS_ACCESS_KEY_ID, or give this process a role." + ("" if has_botocore() else f" {NO_BOTOCORE}")


def has_botocore() -> bool:
    """Return True where botocore is installed."""
    return find_spec("botocore") is not None


def fetch_credentials(region: str) -> Credentials:
    """Return credentials of the chain, asked anew. Raises CredentialsNotFound, and errors of the network."""
    return fetch_by_botocore(region) if has_botocore() else fetch_by_minio()


def fetch_by_botocore(region: str) -> Credentials:
    """Return the credentials of botocore's chain. `region` is that of STS where neither environment nor profile say."""
    import botocore.session  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
    from minio.credentials.credentials import Credentials

    # A new session each time: the credentials of an earlier one are renewed minutes before their expiry only.
    session = botocore.session.Session()
    try:
        if session.get_config_variable("region") is None:
            session.set_config_variable("region", os.environ.get("AWS_REGION") or region)
        # botocore would take an instance's credentials for valid that have expired up to 25 minutes ago.
        session.get_component("credential_provider").remove("iam-role")
        credentials = session.get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials is not None else None
    except (BotoCoreError, ClientError) as e:
        raise CredentialsNotFound(type(e).__name__) from e
    if frozen is None:
        return _retrieve(_role_providers())
    return Credentials(frozen.access_key, frozen.secret_key, frozen.token, getattr(credentials, "_expiry_time", None))


def fetch_by_minio() -> Credentials:
    """Return the credentials of minio's chain."""
    from minio.credentials.providers import AWSConfigProvider, EnvAWSProvider

    return _retrieve([EnvAWSProvider(), AWSConfigProvider(), *_role_providers()])


def _role_providers() -> list[Provider]:
    """Return the provider of a role's credentials: web identity, container or instance."""
    from minio.credentials.providers import IamAwsProvider

    # Its own client would wait for an instance's role for minutes where there is none.
    http = urllib3.PoolManager(timeout=LOOKUP_TIMEOUT, retries=urllib3.Retry(2, backoff_factor=0.2))
    return [IamAwsProvider(custom_endpoint=_endpoint(), http_client=http)] if _has_role() else []


def _retrieve(providers: list[Provider]) -> Credentials:
    from minio.credentials.providers import ChainedProvider

    try:
        return ChainedProvider(providers).retrieve()
    except (ValueError, LookupError, configparser.Error) as e:
        raise CredentialsNotFound(type(e).__name__) from e


CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def _has_role() -> bool:
    named = any(os.environ.get(name) for name in ("AWS_WEB_IDENTITY_TOKEN_FILE", *CONTAINER))
    return named or os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"


def _endpoint() -> str | None:
    """Return the endpoint that AWS's variables name for the service that is asked, or None for its own."""
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return os.environ.get("AWS_ENDPOINT_URL_STS")
    if any(os.environ.get(name) for name in CONTAINER):
        return None
    return os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
