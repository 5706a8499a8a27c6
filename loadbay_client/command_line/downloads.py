"""Fetching uploaded files: each is resumed where it stopped, compared with its checksum, and never replaces another.

The folder has a file `.loadbay.json` with the names of the tracks that were fetched, and a hidden one for each file
that is not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.exceptions import HTTPError

from ..api import ApiClient, connection_error
from ..bodies import CHUNK_BYTES
from ..errors import APIError, ClientError, FileError, StoreError, UploadCancelled
from ..files import FORBIDDEN_CHARACTERS
from ..payloads import Track
from ..retry import RETRYABLE_STATUSES, RetryableError, parse_retry_after

try:
    import anycrc  # type: ignore[import-untyped]
except ImportError:
    anycrc = None

try:
    import fcntl
except ImportError:
    # Windows.
    fcntl = None  # type: ignore[assignment]

TIMEOUT = urllib3.Timeout(connect=10, read=60)
STATE_FILE, LOCK_FILE = ".loadbay.json", ".loadbay.lock"
MAX_NAME_BYTES = 240
"""Bytes of a name, at most: file systems take 255, and a number may follow."""
# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
UNSAFE = re.compile(r'[<>:"|?*]')
MD5_ETAG = re.compile(r"[0-9a-f]{32}")
CHECKSUMS = ("checksum_sha256", "checksum_crc64nvme", "checksum_crc32c")
CRC_MODELS = {"checksum_crc64nvme": ("CRC64-NVME", 8), "checksum_crc32c": ("CRC32-ISCSI", 4)}


@dataclass(frozen=True)
class Source:
    """One object to fetch: a track's file or its cover, with what is known of its content."""

    track_id: str
    kind: str
    name: str
    size: int
    etag: str | None
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identify the object in the state file and in names of unfinished files."""
        return self.track_id if self.kind == "track_download" else f"{self.track_id}-cover"

    @property
    def version(self) -> str:
        """Tell an object from one that is put in its place: what was received of that one is of no use."""
        return hashlib.sha256(f"{self.size} {self.etag}".encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Result:
    """The outcome for one object: its name in the folder, and by what its content was checked.

    `checked` is `sha256`, `crc64nvme`, `crc32c`, `md5`, or `size` where nothing else is known. `present` is true for a
    file that was there before.
    """

    track_id: str
    name: str
    checked: str | None = None
    present: bool = False
    error: ClientError | None = None


class Downloader:
    """Fetches tracks into one folder. `on_progress` is called with the bytes received, negative if they were useless.

    Raises KeyboardInterrupt at any point: what was received is kept.
    """

    def __init__(self, api: ApiClient, folder: Path, on_progress: Callable[[int], None]):
        self.api, self.folder, self.on_progress = api, folder, on_progress
        self.names = _read_state(folder / STATE_FILE)
        self.taken: set[str] = set()

    def fetch(self, track: Track) -> Iterator[Result]:
        """Fetch a track's file, then its cover, and yield a result for each.

        Raises APIError for a key without the right to.
        """
        for source in _sources(track):
            try:
                yield self._fetch(source)
            except UploadCancelled:
                raise
            except APIError as e:
                if e.status in (401, 403):
                    raise
                yield Result(source.track_id, source.name, error=e)
            except OSError as e:
                yield Result(source.track_id, source.name, error=FileError(f"It cannot be written: {e.strerror}."))
            except ClientError as e:
                yield Result(source.track_id, source.name, error=e)

    def _fetch(self, source: Source) -> Result:
        path, checked = self._find(source)
        if checked is not None:
            self.on_progress(source.size)
            return Result(source.track_id, path.name, checked, present=True)
        part = self.folder / f".loadbay-{source.key}-{source.version}.part"
        checked = self._receive(source, part)
        path = self._publish(source, part, path)
        self._record(source, path.name)
        return Result(source.track_id, path.name, checked)

    # --- Names ---

    def _find(self, source: Source) -> tuple[Path, str | None]:
        """Return the path of the object, and by what it was checked if it is there already.

        A file that was fetched before is known by its track; any other only by a checksum.
        """
        for name in self._candidates(source):
            path = self.folder / name
            if name.casefold() in self.taken:
                continue
            if not os.path.lexists(path):
                break
            checked = _check(path, source) if path.is_file() and not path.is_symlink() else None
            if checked is not None and (checked != "size" or self.names.get(source.key) == name):
                self.taken.add(name.casefold())
                self._record(source, name)
                return path, checked
        self.taken.add(path.name.casefold())
        return path, None

    def _candidates(self, source: Source) -> Iterator[str]:
        if source.key in self.names:
            yield self.names[source.key]
        stem, dot, ending = source.name.rpartition(".")
        stem, ending = (stem, f".{ending}") if dot and stem else (source.name, "")
        yield f"{stem}{ending}"
        number = 2
        while True:
            yield f"{stem} ({number}){ending}"
            number += 1

    def _publish(self, source: Source, part: Path, path: Path) -> Path:
        """Give a complete file its name, or the next one that is free, and return its path."""
        if _move(part, path):
            return path
        for name in self._candidates(source):
            if name.casefold() not in self.taken and _move(part, self.folder / name):
                self.taken.add(name.casefold())
                return self.folder / name
        raise AssertionError("There is always another name.")

    def _record(self, source: Source, name: str) -> None:
        if self.names.get(source.key) == name:
            return
        self.names[source.key] = name
        temporary = self.folder / f"{STATE_FILE}.new"
        temporary.write_text(json.dumps(self.names, indent=1, ensure_ascii=False), "utf-8")
        temporary.replace(self.folder / STATE_FILE)

    # --- Bytes ---

    def _receive(self, source: Source, part: Path) -> str:
        """Receive an object into `part`, and return by what it was checked. Raises FileError where it is another."""
        for _ in range(2):
            already = _size_of(part)
            self.on_progress(already)
            self.api.retry_policy.run(lambda: self._receive_rest(source, part))
            if (checked := _check(part, source)) is not None:
                return checked
            self.on_progress(-_size_of(part))
            part.unlink(missing_ok=True)
        raise FileError("What was fetched is not what was uploaded: its checksum or size differs.")

    def _receive_rest(self, source: Source, part: Path) -> None:
        start = _size_of(part)
        if start >= source.size > 0:
            return
        download: Any = self.api.download_track(source.track_id).get(source.kind)
        if download is None:
            raise FileError("It cannot be downloaded any more.")
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self.api.pool.request(
                "GET", download["download_url"], headers=headers, redirect=False, timeout=TIMEOUT, preload_content=False
            )
        except (HTTPError, OSError) as e:
            # urllib3's message contains the URL.
            raise connection_error("The object store", e) from None
        try:
            self._write(source, part, start, response)
        except HTTPError as e:
            raise connection_error("The object store", e) from None
        finally:
            response.close()

    def _write(self, source: Source, part: Path, start: int, response: urllib3.BaseHTTPResponse) -> None:
        continues = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if response.status not in (200, 206) or (response.status == 206 and not continues):
            if response.status in (206, 416):
                self.on_progress(-start)
                part.unlink(missing_ok=True)
            retryable = response.status in {*RETRYABLE_STATUSES, 206, 403, 404, 416}
            error = StoreError(response.status)
            raise RetryableError(error, parse_retry_after(response)) if retryable else error
        if not continues:
            self.on_progress(-start)
        with part.open("ab" if continues else "wb") as file:
            for chunk in response.stream(CHUNK_BYTES):
                file.write(chunk)
                self.on_progress(len(chunk))
                if file.tell() > source.size:
                    break


def _sources(track: Track) -> Iterator[Source]:
    name, size = safe_name(track["file_name"]), track["size"] or 0
    checksums = {column: str(track[column]) for column in CHECKSUMS if track.get(column)}  # type: ignore[literal-required]
    yield Source(track["id"], "track_download", name, size, track["etag"], checksums)
    cover = track["cover"]
    if cover is not None and cover["status"] == "uploaded":
        ending = (cover["content_type"] or "").rpartition("/")[2].partition("+")[0] or "img"
        stem = name.rpartition(".")[0] or name
        ending = {"jpeg": "jpg"}.get(ending, ending)
        yield Source(track["id"], "track_cover_download", f"{stem}.{ending}", cover["size"] or 0, cover["etag"])


def safe_name(file_name: str) -> str:
    """Return a file name that stays in its folder and that all systems accept; an uploader has chosen it.

    >>> safe_name("../a:b.wav"), safe_name("nul.wav"), safe_name(".hidden"), safe_name("a. ")
    ('_._a_b.wav', '_nul.wav', '_hidden', 'a')
    """
    name = UNSAFE.sub("_", FORBIDDEN_CHARACTERS.sub("_", file_name)).rstrip(" .")
    name = f"_{name[1:]}" if name.startswith(".") else name
    name = f"_{name}" if RESERVED.fullmatch(name) or not name else name
    stem, dot, ending = name.rpartition(".")
    ending = f".{ending}" if dot and stem and len(ending.encode()) < 32 else ""
    stem = name.removesuffix(ending) if ending else name
    return stem.encode(errors="replace")[: MAX_NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending


def lock_folder(folder: Path) -> IO[bytes]:
    """Return an open file by which this process has the folder to itself, where the system has such locks.

    Raises BlockingIOError where another process has it, and other OSErrors.
    """
    file = (folder / LOCK_FILE).open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
    return file


def _read_state(path: Path) -> dict[str, str]:
    """Return the names of objects that were fetched before; a file that is not valid counts as absent."""
    try:
        names = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    items = names.items() if isinstance(names, dict) else ()
    return {key: name for key, name in items if isinstance(name, str) and name == safe_name(name)}


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _move(part: Path, path: Path) -> bool:
    """Rename a file, unless there is one of the new name already; return whether it was renamed."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links.
        try:
            path.open("xb").close()
        except FileExistsError:
            return False
        part.replace(path)
        return True
    part.unlink()
    return True


def _check(path: Path, source: Source) -> str | None:
    """Return by what a file was found to be the object: a checksum, or else its size; None where it is another.

    An ETag is compared only where no checksum was declared: it may be an MD5, or not.
    """
    if not path.is_file() or path.stat().st_size != source.size:
        return None
    for column, value in source.checksums.items():
        if (actual := _checksum(path, column)) is not None:
            return column.removeprefix("checksum_") if actual == value else None
    if source.etag is not None and MD5_ETAG.fullmatch(source.etag) and _md5(path) == source.etag:
        return "md5"
    return "size"


def _checksum(path: Path, column: str) -> str | None:
    """Return a checksum of a file in base64, or None where it cannot be computed (a CRC without anycrc)."""
    if column == "checksum_sha256":
        digest = hashlib.sha256()
        for chunk in _chunks(path):
            digest.update(chunk)
        return b64encode(digest.digest()).decode()
    if anycrc is None:
        return None
    name, size = CRC_MODELS[column]
    model, crc = anycrc.Model(name), 0
    for chunk in _chunks(path):
        crc = model.calc(chunk, crc)
    return b64encode(crc.to_bytes(size, "big")).decode()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
