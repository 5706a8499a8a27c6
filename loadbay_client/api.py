"""Client of the service's JSON API: one method for each endpoint, with retries."""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, cast

import urllib3
from urllib3.exceptions import HTTPError

from .errors import APIError, ClientError, ConnectionFailed
from .payloads import (
    ClosedSessionResponse,
    CoverUpload,
    CoverUploadResponse,
    DownloadResponse,
    PartUpload,
    RegisteredTracksResponse,
    Registration,
    SessionRequest,
    SessionResponse,
    SignedPartsResponse,
    StoredPart,
    StoredPartsResponse,
    Track,
    TrackPage,
    TrackRequest,
    TrackResponse,
    VerifiedTracksResponse,
)
from .retry import RETRYABLE_STATUSES, ProxiedPool, RetryableError, RetryPolicy, parse_retry_after

TIMEOUT = urllib3.Timeout(connect=10, read=60)
REACH_TIMEOUT = 4.0
"""Seconds in which a service must respond before anything is sent to it."""
POOL_SIZE = 64
"""Connections to one host that are kept open for later requests."""
VERIFYING = "verifying"
"""Status of a track or cover whose verification has not finished."""
NOT_UPLOADED = "not_uploaded"
"""Status, and code of an error, of a track whose bytes the object store does not have."""


MAX_BATCH_TRACKS = 1000
"""Tracks of one request to register them."""

MAX_VERIFIED_TRACKS = 200
"""Tracks of one request to verify them. Of more, the response leaves out `metadata`."""


class ApiResponse(NamedTuple):
    """A successful response: its JSON object, and the seconds before the next request makes sense."""

    payload: Any
    retry_after: float


class Verification(NamedTuple):
    """Answer to a request to verify a track.

    `status` is `uploaded`, `failed`, `verifying`, `not_uploaded`, or whatever ended the track. After `verifying`, the
    service expects the next request in `retry_after` seconds. `track` is None if the service did not send it.
    """

    status: str
    track: Track | None = None
    retry_after: float = 0.0


def check_server(server: str) -> str:
    """Return the service's URL without a trailing slash.

    Raises ValueError if it is not an HTTP URL; the message does not repeat it, as it may contain a password.
    """
    try:
        url = urllib3.util.parse_url(server)
    except HTTPError:
        url = urllib3.util.Url()
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ValueError("server: must be an HTTP URL such as https://uploads.example.com.")
    if url.auth:
        raise ValueError("server: must not contain a user name or password; pass the API key separately.")
    return server.rstrip("/")


def track_path(session_id: str, track_id: str) -> str:
    """Return the path of a track in the API."""
    return f"/v1/upload/{session_id}/track/{track_id}"


class ApiClient:
    """The API of one service. `key` is the API key, sent only to the endpoints that require one.

    All methods raise APIError and ConnectionFailed, and UploadCancelled once the retry policy is stopped. A POST
    carries an Idempotency-Key, so that its retries take effect once.
    """

    def __init__(self, server: str, key: str | None, retry_policy: RetryPolicy):
        self.server, self.retry_policy = check_server(server), retry_policy
        self.pool = ProxiedPool(maxsize=POOL_SIZE, retries=False, timeout=TIMEOUT)
        self._key = key

    def with_own_stop(self) -> ApiClient:
        """Return a client with the same connections that is stopped independently of this one."""
        clone = copy(self)
        clone.retry_policy = replace(self.retry_policy, stop=threading.Event())
        return clone

    def check_reachable(self) -> None:
        """Return once the service responds, with whatever status, or raise ConnectionFailed within REACH_TIMEOUT."""
        timeout = urllib3.Timeout(total=REACH_TIMEOUT)
        try:
            self.pool.request("GET", f"{self.server}/healthz", timeout=timeout, redirect=False)
        except HTTPError as e:
            error = connection_error(self.server, e)
            raise (error.cause if isinstance(error, RetryableError) else error) from None

    # --- Sessions ----------------------------------------------------------------------------------------------------

    def open_session(self, request: SessionRequest) -> SessionResponse:
        """Open an upload session."""
        return cast(SessionResponse, self._post("/v1/upload_session", request, with_key=True))

    def get_session(self, session_id: str) -> SessionResponse:
        """Return an upload session."""
        return cast(SessionResponse, self._get(f"/v1/upload_session/{session_id}"))

    def close_session(self, session_id: str) -> ClosedSessionResponse:
        """Close an upload session."""
        return cast(ClosedSessionResponse, self._post(f"/v1/upload_session/{session_id}/close"))

    # --- Tracks ------------------------------------------------------------------------------------------------------

    def list_tracks(self, session_id: str, limit: int, after: str | None = None) -> TrackPage:
        """Return one page of a session's tracks, those that follow the track `after`."""
        query = f"limit={limit}" + (f"&after={after}" if after else "")
        return cast(TrackPage, self._get(f"/v1/upload/{session_id}/track?{query}"))

    def register_track(self, session_id: str, request: TrackRequest) -> Registration:
        """Register one track."""
        return cast(Registration, self._post(f"/v1/upload/{session_id}/track", request))

    def register_tracks(self, session_id: str, requests: Sequence[TrackRequest]) -> list[Registration]:
        """Register several tracks or none; the results are in the order of `requests`."""
        response = self._post(f"/v1/upload/{session_id}/tracks", {"tracks": requests})
        return cast(RegisteredTracksResponse, response)["tracks"]

    def renew_track(self, path: str) -> Registration:
        """Return a track with new upload targets; a failed one becomes `initialized` again."""
        return cast(Registration, self._post(f"{path}/renew"))

    def complete_track(self, path: str) -> Verification:
        """Have a track verified and return the result."""
        try:
            response, retry_after = self._request_post(f"{path}/complete")
        except APIError as e:
            if e.code != NOT_UPLOADED:
                raise
            return Verification(NOT_UPLOADED)
        track = cast(TrackResponse, response)["track"]
        return Verification(track["status"], track, retry_after)

    def complete_tracks(self, session_id: str, track_ids: Sequence[str] | None) -> dict[str, Verification]:
        """Have tracks verified, at most MAX_VERIFIED_TRACKS, and return the results by track id.

        None stands for the session's tracks that are not final.
        """
        request = {} if track_ids is None else {"track_ids": track_ids}
        response, retry_after = self._request_post(f"/v1/upload/{session_id}/complete", request)
        return {
            item["track_id"]: Verification(item["status"], item["track"], retry_after)
            for item in cast(VerifiedTracksResponse, response)["tracks"]
        }

    def cancel_track(self, path: str) -> None:
        """Cancel a track."""
        self._request("DELETE", path)

    def list_parts(self, path: str) -> list[StoredPart]:
        """Return the parts of a track that the object store has received."""
        return cast(StoredPartsResponse, self._get(f"{path}/parts"))["parts"]

    def sign_part(self, path: str, part_number: int) -> PartUpload:
        """Return a new target of one part."""
        response = self._post(f"{path}/parts", {"part_numbers": [part_number]})
        return cast(SignedPartsResponse, response)["parts"][0]

    def replace_cover(self, track_id: str) -> CoverUpload:
        """Return the target of a new cover for an uploaded track; requires a full API key."""
        response = self._post(f"/v1/track/{track_id}/cover", with_key=True)
        return cast(CoverUploadResponse, response)["track_cover_upload"]

    def download_track(self, track_id: str) -> DownloadResponse:
        """Return the download URLs of an uploaded track and of its cover; requires a full API key."""
        return cast(
            DownloadResponse, self._request("GET", f"/v1/track/{track_id}/download", self._credentials()).payload
        )

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._request("GET", path).payload

    def _post(self, path: str, payload: Mapping[str, object] | None = None, *, with_key: bool = False) -> Any:
        return self._request_post(path, payload, with_key=with_key).payload

    def _request_post(
        self, path: str, payload: Mapping[str, object] | None = None, *, with_key: bool = False
    ) -> ApiResponse:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        headers |= self._credentials() if with_key else {}
        if payload is None:
            return self._request("POST", path, headers)
        return self._request("POST", path, headers | {"Content-Type": "application/json"}, json.dumps(payload).encode())

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> ApiResponse:
        def attempt() -> ApiResponse:
            try:
                response = self.pool.request(method, self.server + path, headers=headers, body=body, redirect=False)
            except HTTPError as e:
                # urllib3's message contains the path and with it the session id.
                raise connection_error(self.server, e) from None
            return _parse_response(response)

        return self.retry_policy.run(attempt)


def connection_error(host: str, error: Exception) -> ClientError:
    """Return the error for a request without a response: retryable unless the certificate is invalid."""
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in (error, *error.args)):
        return ConnectionFailed(f"{host} cannot be reached: its TLS certificate is not trusted.")
    return RetryableError(ConnectionFailed(f"{host} cannot be reached ({type(error).__name__})."))


def _parse_response(response: urllib3.BaseHTTPResponse) -> ApiResponse:
    """Return the JSON object and the Retry-After of a response with status 200.

    Raises APIError for any other, wrapped in RetryableError where another attempt may succeed.
    """
    try:
        payload = json.loads(response.data)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        message = f"The server sent no JSON object (status {response.status}). Is it a Loadbay service?"
        error = APIError(response.status, "invalid_response", message)
    elif response.status == 200:
        return ApiResponse(payload, parse_retry_after(response))
    else:
        error = APIError(response.status, *(str(payload.get(key, "")) for key in ("code", "message", "api_request_id")))
    retry_after = parse_retry_after(response)
    if response.status in RETRYABLE_STATUSES or retry_after:
        raise RetryableError(error, retry_after)
    raise error
