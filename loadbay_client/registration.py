"""Registration of files as tracks, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil

from .api import ApiClient
from .bodies import crc64nvme_of, sha256_of
from .errors import APIError, ClientError, file_error
from .files import RULES, File, media_type
from .payloads import Registration, TrackRequest

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
MAX_PUT_BYTES = 5 * 2**30
# Errors that one item may cause for its whole batch: invalid, session full, too large.
PER_ITEM_STATUSES = {400, 409, 413}
MIB = 2**20


def usual_part_size(size: int) -> int:
    """Return the bytes in each part of a file of `size` bytes: small ones, so that a pause loses little.

    >>> [usual_part_size(size * MIB) // MIB for size in (8, 500, 5_000, 500_000)]
    [5, 8, 16, 50]
    """
    parts = RULES["parts"]
    usual = min(max(_mebibytes(size / parts["usual"]), parts["smallest"]), parts["largest"])
    return int(max(usual, _mebibytes(size / parts["most"])))


def _mebibytes(size: float) -> int:
    return ceil(size / MIB) * MIB


@dataclass(frozen=True)
class Registrar:
    """Registers files in one session; files of `multipart_threshold` bytes or more use multipart upload."""

    api: ApiClient
    session_id: str
    multipart_threshold: int
    part_size: int | None

    def request_for(self, file: File) -> TrackRequest:
        """Return the request that registers a file, with its checksum. Raises OSError, UploadCancelled."""
        size = file.path.stat().st_size
        request: TrackRequest = {
            "file_name": file.upload_name, "file_size": size, "content_type": file.content_type,
            "metadata": file.metadata or None, "multipart": size >= min(self.multipart_threshold, MAX_PUT_BYTES),
        }  # fmt: skip
        if file.cover is not None:
            request["cover_fields"] = True
            # A cover that cannot be read fails when it is sent, without its file.
            with suppress(OSError):
                request["cover_size"] = file.cover.stat().st_size
                request["cover_content_type"] = media_type(file.cover)
        if request["multipart"]:
            request["part_size"] = self.part_size or usual_part_size(size)
            request["checksum_crc64nvme"] = crc64nvme_of(file.path, self.api.retry_policy.stop)
        else:
            request["checksum_sha256"] = sha256_of(file.path, self.api.retry_policy.stop)
            request["write_once"] = True
        return request

    def register_files(self, files: Sequence[File]) -> list[Registration | ClientError]:
        """Register files; return for each its registration or its error. Raises ConnectionFailed, UploadCancelled."""
        requests = [self._request_or_error(file) for file in files]
        registrations = iter(self.register([item for item in requests if not isinstance(item, ClientError)]))
        return [item if isinstance(item, ClientError) else next(registrations) for item in requests]

    def register(self, requests: Sequence[TrackRequest]) -> list[Registration | APIError]:
        """Register tracks; return for each its registration or its error. Raises as `register_files` does.

        Multipart uploads are registered one by one, as the service creates each in the object store.
        """
        batch = iter(self._register_batch([request for request in requests if not request["multipart"]]))
        return [self._register_one(request) if request["multipart"] else next(batch) for request in requests]

    def _register_batch(self, requests: Sequence[TrackRequest]) -> Sequence[Registration | APIError]:
        if len(requests) > 1:
            try:
                return self.api.register_tracks(self.session_id, requests)
            except APIError as e:
                if e.status not in PER_ITEM_STATUSES:
                    return [e] * len(requests)
        return [self._register_one(request) for request in requests]

    def _register_one(self, request: TrackRequest) -> Registration | APIError:
        try:
            return self.api.register_track(self.session_id, request)
        except APIError as e:
            return e

    def _request_or_error(self, file: File) -> TrackRequest | ClientError:
        try:
            return self.request_for(file)
        except OSError as e:
            return file_error(e)
