"""A track's bytes and its cover, sent to where the service says, and sent again where that helps."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from .api import ApiClient
from .bodies import FileSlice, MultipartBody, ProgressCallback, send
from .errors import FileError, StoreError, UploadCancelled, VerificationFailed
from .retry import RetryableError

PARTS_AT_ONCE = 4
Answer = dict[str, Any]


@dataclass(frozen=True)
class TrackUploader:
    """Sends what belongs to one track: `there` is its path in the API, `slots` are the connections that may be used."""

    service: ApiClient
    track_path: str
    slots: threading.Semaphore
    advance: ProgressCallback

    def put_file(self, path: Path, upload: Answer) -> None:
        """Send a file in one PUT. Raises OSError, FileFault, Refused, Stopped, StoreError, Unreachable."""
        size, target = path.stat().st_size, self._targets(upload, "track_upload")

        def attempt() -> None:
            self._put(next(target), path, 0, size)

        try:
            self.service.retry_policy.run(attempt)
        except StoreError as e:
            # A write-once PUT whose answer was lost: the bytes are there, and `complete` looks at them.
            if e.status != 412:
                raise
            self.advance(size)

    def post_cover(self, path: Path, upload: Answer, renewed: Callable[[], Answer] | None = None) -> None:
        """Send a cover by its form; `renewed` tells of a fresh one where `renew` does not. Raises as `whole`."""
        target = self._targets(upload, "track_cover_upload", renewed)

        def attempt() -> None:
            to = next(target)
            with path.open("rb") as opened:
                size = path.stat().st_size
                stop = self.service.retry_policy.stop
                body = MultipartBody(to["fields"], path, FileSlice(opened, 0, size, lambda _: None, stop), size)
                headers = {"Content-Length": str(body.length), "Content-Type": body.content_type, **to["headers"]}
                send(self.service.pool, to["method"], to["upload_url"], headers, body)

        self.service.retry_policy.run(attempt)

    def put_parts(self, path: Path, upload: Answer) -> None:
        """Send the parts that the store has not got yet, some at once. Raises as `whole`."""
        told, size = upload["track_multipart_upload"], path.stat().st_size
        if -(-size // told["part_size"]) != told["part_count"]:
            raise FileError("Its size is not the one that it was registered with.")
        arrived = {part["part_number"]: part for part in self.service.get(f"{self.track_path}/parts")["parts"]}
        urls = {part["part_number"]: part for part in told["parts"]}

        def one(number: int) -> None:
            start = (number - 1) * told["part_size"]
            length = min(told["part_size"], size - start)
            if number in arrived and self._part_matches(arrived[number], path, start, length):
                self.advance(length)
            else:
                self._part(number, path, start, length, urls.get(number))

        pool = ThreadPoolExecutor(min(PARTS_AT_ONCE, told["part_count"]))
        try:
            numbers = range(1, told["part_count"] + 1)
            for future in wait([pool.submit(one, number) for number in numbers], return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException as e:
            if not isinstance(e, Exception):
                self.service.retry_policy.stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _part(self, number: int, path: Path, start: int, length: int, first: Answer | None) -> None:
        fresh = [first] if first else []

        def attempt() -> None:
            wanted = {"part_numbers": [number]}
            to = fresh.pop() if fresh else self.service.post(f"{self.track_path}/parts", wanted)["parts"][0]
            answer, body = self._put(to, path, start, length)
            if etag_mismatch(answer.headers.get("ETag", ""), body.md5.hexdigest()):
                body.rewind_progress()
                raise RetryableError(VerificationFailed("damaged", f"part {number} arrived as something else"))

        self.service.retry_policy.run(attempt)

    def _part_matches(self, part: Answer, path: Path, start: int, length: int) -> bool:
        """Whether a part that the store has is what the file has there."""
        if part["size"] != length:
            return False
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as opened:
            window = FileSlice(opened, start, length, lambda _: None, self.service.retry_policy.stop)
            while piece := window.read():
                digest.update(piece)
        return not etag_mismatch(part["etag"], digest.hexdigest())

    def _targets(self, upload: Answer, name: str, renewed: Callable[[], Answer] | None = None) -> Iterator[Answer]:
        """Where to send it: as the service has said, and every other time as it says then."""
        yield upload[name]
        while True:
            yield (renewed() if renewed else self.service.post(f"{self.track_path}/renew"))[name]

    def _put(self, to: Answer, path: Path, start: int, size: int) -> tuple[urllib3.BaseHTTPResponse, FileSlice]:
        with self._slot(), path.open("rb") as opened:
            body = FileSlice(opened, start, size, self.advance, self.service.retry_policy.stop)
            headers = {"Content-Length": str(size), **to["headers"]}
            try:
                return send(self.service.pool, "PUT", to["upload_url"], headers, body), body
            except BaseException:
                body.rewind_progress()
                raise

    @contextmanager
    def _slot(self) -> Iterator[None]:
        while not self.slots.acquire(timeout=0.5):
            if self.service.retry_policy.stop.is_set():
                raise UploadCancelled("The upload was stopped.")
        try:
            yield
        finally:
            self.slots.release()


def etag_mismatch(etag: str, md5: str) -> bool:
    """Whether an ETag says that other bytes arrived. One that is no MD5, as of an encrypted part, says nothing."""
    etag = etag.strip('"')
    return re.fullmatch("[0-9a-f]{32}", etag) is not None and etag != md5
