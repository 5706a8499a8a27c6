"""What may go wrong. No message holds a URL, a key or a session's id: each of these opens something."""

from __future__ import annotations


class ClientError(Exception):
    """The root of all of them."""


class Unreachable(ClientError):
    """The service or the store gave no usable answer, however often it was asked."""


class Stopped(ClientError):
    """The upload was told to stop."""


class Refused(ClientError):
    """The service refused a request: `code` is its word for programs, `api_request_id` finds it in its log."""

    def __init__(self, status: int, code: str, message: str, api_request_id: str = ""):
        super().__init__(f"{message} ({code}, request {api_request_id or 'unknown'})")
        self.status, self.code, self.message, self.api_request_id = status, code, message, api_request_id


class StoreError(ClientError):
    """The store refused the bytes with this status."""

    def __init__(self, status: int):
        super().__init__(f"The store refused the bytes (status {status}).")
        self.status = status


class UploadFailed(ClientError):
    """The service looked at what arrived and did not take it: `status` and `failure` are its words."""

    def __init__(self, status: str, failure: str | None):
        super().__init__(f"The service found the track {status}{f': {failure}' if failure else ''}.")
        self.status, self.failure = status, failure
