"""Exceptions raised by the client.

No message contains a URL, an API key or a session id, as each of them grants access.
"""

from __future__ import annotations

VERIFICATION_SUMMARIES = {
    "uploaded": "Track uploaded without its cover.",
    "verifying": "Track not verified yet.",
    "not_uploaded": "Track not uploaded.",
}


class ClientError(Exception):
    """Base class of the client's exceptions.

    `code` is a stable identifier for programs, `message` a sentence for people. `api_request_id` identifies the
    request in the service's log; it is empty unless the error came from the service.
    """

    code: str = "client_error"
    api_request_id: str = ""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class ConnectionFailed(ClientError):
    """The service or the object store could not be reached after all retries."""

    code = "connection_failed"


class UploadCancelled(ClientError):
    """The upload was cancelled before it finished."""

    code = "upload_cancelled"

    def __init__(self, message: str = "The upload was cancelled."):
        super().__init__(message)


class FileError(ClientError):
    """A local file cannot be read, changed during the upload, or breaks a rule of the session, which `code` then names.

    The code is `file_error`, or begins with `rule_`.
    """

    code = "file_error"

    def __init__(self, message: str, code: str = "file_error"):
        super().__init__(message)
        self.code = code


class APIError(ClientError):
    """An error response of the service: its HTTP `status`, `code` and `message`."""

    def __init__(self, status: int, code: str, message: str, api_request_id: str = ""):
        super().__init__(message)
        self.status, self.code, self.api_request_id = status, code, api_request_id

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, request {self.api_request_id or 'unknown'})"


class StoreError(ClientError):
    """An error response of the object store, with its HTTP `status`."""

    code = "storage_rejected"

    def __init__(self, status: int):
        super().__init__(f"The object store rejected the upload (status {status}).")
        self.status = status


class VerificationFailed(ClientError):
    """The service did not accept what was uploaded.

    `status` is the track's status, which is `uploaded` if only the cover is missing, `verifying` if the service had not
    finished after all retries, and `not_uploaded` if the object store does not have what was sent; `failure` is the
    reason, and `failure_code` its code, if the service gave one.
    """

    code = "verification_failed"

    def __init__(self, status: str, failure: str | None, failure_code: str | None = None):
        summary = VERIFICATION_SUMMARIES.get(status, f"Track {status}.")
        super().__init__(f"{summary} {failure or ''}".rstrip())
        self.status, self.failure, self.failure_code = status, failure, failure_code


def file_error(error: OSError, subject: str = "file") -> FileError:
    """Return the error of a file that cannot be read, without its path."""
    return FileError(f"The {subject} cannot be read: {error.strerror}.")
