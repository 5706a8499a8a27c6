"""What may go wrong. No message holds a URL, a key or a session's id: each of these opens something."""

from __future__ import annotations


class ClientError(Exception):
    """The root of all of them.

    `code` is a word for programs, `message` a sentence for people; `api_request_id` finds the request in the service's
    log, and is empty where the service did not speak.
    """

    code: str = "client_error"
    api_request_id: str = ""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


class ConnectionFailed(ClientError):
    """The service or the store gave no usable answer, however often it was asked."""

    code = "unreachable"


class UploadCancelled(ClientError):
    """The upload was told to stop."""

    code = "stopped"


class FileError(ClientError):
    """A file cannot be read, or was changed while it was uploaded."""

    code = "file_fault"


class APIError(ClientError):
    """The service refused a request with this status; `code` and `message` are its words."""

    def __init__(self, status: int, code: str, message: str, api_request_id: str = ""):
        super().__init__(message)
        self.status, self.code, self.api_request_id = status, code, api_request_id

    def __str__(self) -> str:
        return f"{self.message} ({self.code}, request {self.api_request_id or 'unknown'})"


class StoreError(ClientError):
    """The store refused the bytes with this status."""

    code = "refused_by_store"

    def __init__(self, status: int):
        super().__init__(f"The store refused the bytes (status {status}).")
        self.status = status


class VerificationFailed(ClientError):
    """The service looked at what arrived and did not take it: `status` and `failure` are its words."""

    code = "upload_failed"

    def __init__(self, status: str, failure: str | None):
        super().__init__(f"The service found the track {status}{f': {failure}' if failure else ''}.")
        self.status, self.failure = status, failure
