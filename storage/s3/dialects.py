"""The meaning of what stores answer: errors, ETags, dates, keys and listings, in the dialects that they speak.

Every answer of a store is read here and nowhere else. It is input from outside: each value is bounded before it is
used. tests/test_dialects.py has the table of dialects. https://docs.aws.amazon.com/AmazonS3/latest/API/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from storage.formats.checksums import ALGORITHMS, Algorithm

MAX_ERROR_BYTES = 65_536
"""Bytes of an error's body that are read."""

MAX_SIZE = 2**63 - 1
MAX_RETRY_AFTER = 300
"""Seconds: a store that asks for a longer pause is asked again after this one."""

FULL_OBJECT = "FULL_OBJECT"
WEAK = "weak:"
"""Beginning of what identifies an object without an ETag: its size and time of change, which prove nothing."""

SENDER_HEADERS = (
    "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires",
    "x-amz-website-redirect-location",
)  # fmt: skip
"""Headers that the store keeps from a PUT and sends with the object, besides Content-Type and `x-amz-meta-`."""

CODES = {
    301: "PermanentRedirect",
    302: "TemporaryRedirect",
    307: "TemporaryRedirect",
    308: "PermanentRedirect",
    400: "BadRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    429: "SlowDown",
    500: "InternalError",
    501: "NotImplemented",
    502: "ServiceUnavailable",
    503: "ServiceUnavailable",
    504: "RequestTimeout",
}
"""The code that an error has whose body names none, by its status. HEAD never has a body."""

_code = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_region = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_etag = re.compile(r"[!#-~]{1,255}")
_version_id = re.compile(r"[!-~]{1,1024}")


# --- Errors -----------------------------------------------------------------------------------------------------------


class ErrorResponse(Exception):
    """An error that the store answered with.

    `code` is S3's, or the one of CODES where the body has none (`is_s3` is False then). `region` is that of the bucket,
    if the store tells it, `retry_after` the pause in seconds that it asks for, `operation` S3's name of the request.
    """

    def __init__(
        self, status: int, code: str, *, is_s3: bool = True, region: str | None = None, retry_after: int | None = None
    ):
        super().__init__(f"{code} (HTTP status {status})")
        self.status, self.code, self.is_s3, self.region, self.retry_after = status, code, is_s3, region, retry_after
        self.operation = ""


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> ErrorResponse:
    """Return the error that a response stands for, whatever its Content-Type, and if it has no body."""
    try:
        root: Element | None = parse_xml(body[:MAX_ERROR_BYTES]) if body.strip() else None
    except ElementTree.ParseError:
        root = None
    code, region = _text(root, "Code"), headers.get("x-amz-bucket-region") or _text(root, "Region")
    is_s3 = code is not None and _code.fullmatch(code) is not None
    return ErrorResponse(
        status,
        code if is_s3 and code is not None else CODES.get(status, "BadRequest" if status < 500 else "InternalError"),
        is_s3=is_s3,
        region=region if region and _region.fullmatch(region) else None,
        retry_after=_parse_retry_after(headers.get("Retry-After")),
    )


def is_error(body: bytes) -> bool:
    """Return True for the document of an error, which CopyObject, CompleteMultipartUpload and others send with 200."""
    if b"<Error" not in body[:512]:
        return False
    try:
        return parse_xml(body).tag == "Error"
    except ElementTree.ParseError:
        return False


def _parse_retry_after(value: str | None) -> int | None:
    """Return the seconds of a Retry-After header. A date counts as none: clocks differ."""
    text = (value or "").strip()
    return min(int(text), MAX_RETRY_AFTER) if re.fullmatch(r"[0-9]{1,9}", text) else None


# --- XML, ETags and dates ---------------------------------------------------------------------------------------------


def parse_xml(body: bytes) -> Element:
    """Return a document's root, with all names free of namespaces, which some stores leave out. Raises ParseError."""
    # The store may send whitespace first, to keep the connection open. Expat bounds the expansion of entities.
    root = ElementTree.fromstring(body.strip())  # noqa: S314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(root: Element | None, name: str) -> str | None:
    """Return the text of the first element `name`, at any depth, or None where there is none."""
    element = None if root is None else next(root.iter(name), None)
    return None if element is None or element.text is None else element.text.strip()


def parse_etag(value: str | None) -> str | None:
    """Return an ETag without its quotes, or None where the store tells none. Raises ValueError for an unusable one.

    >>> [parse_etag(value) for value in ('"0cc1-2"', "0cc1", 'W/"0cc1"', '""', None)]
    ['0cc1-2', '0cc1', '0cc1', None, None]
    """
    etag = (value or "").strip()
    # A proxy that compresses makes a strong ETag weak; the store still knows it as it was.
    etag = etag.removeprefix("W/").strip('"')
    if not etag:
        return None
    if not _etag.fullmatch(etag):
        raise ValueError("the ETag is unusable")
    return etag


def is_weak(etag: str) -> bool:
    """Return True for an identifier of WEAK: no condition on it can be sent to the store."""
    return etag.startswith(WEAK)


def weak_etag(size: int, last_modified: datetime | None) -> str:
    """Return what identifies an object that has no ETag, as far as that goes.

    >>> weak_etag(12, datetime(2030, 1, 31, tzinfo=UTC))
    'weak:12:1896048000'
    """
    return f"{WEAK}{size}:{int(last_modified.timestamp()) if last_modified else ''}"


def parse_version_id(value: str | None) -> str | None:
    """Return a version's id as it is. Raises ValueError for an unusable one."""
    if value is not None and not _version_id.fullmatch(value):
        raise ValueError("the version id is unusable")
    return value


@lru_cache(maxsize=256)
def parse_date(value: str | None) -> datetime | None:
    """Return the time of a header (RFC 9110) or of a listing (ISO 8601, with any precision); None if unreadable.

    >>> parse_date("2030-01-31T12:00:00.123456789Z") == parse_date("2030-01-31T13:00:00.123456+01:00")
    True
    """
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse((value or "").strip())
        except (ValueError, TypeError, IndexError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


# --- Objects ----------------------------------------------------------------------------------------------------------


class WrittenObject(NamedTuple):
    """The object that a copy or a completed multipart upload has created; `etag` without quotes, None if not told."""

    etag: str | None
    version_id: str | None


class ObjectInfo(NamedTuple):
    """An object's metadata in the store: `size` in bytes, `etag` without quotes, or an identifier of WEAK.

    `checksums` are those of all its bytes that the store tells. `has_sender_headers` is True if it carries headers of
    its sender besides Content-Type, `sends_them` if one of these is sent as it is, rather than as `x-amz-meta-`, which
    `metadata` has by name.
    """

    key: str
    size: int
    etag: str
    version_id: str | None
    content_type: str | None
    checksums: Mapping[Algorithm, str]
    last_modified: datetime | None
    has_sender_headers: bool = False
    sends_them: bool = False
    metadata: Mapping[str, str] = {}


def object_size(headers: Mapping[str, str]) -> int | None:
    """Return an object's size, or None where the headers have none. Raises ValueError for one out of range.

    Content-Range has the size of an object that is sent in part: https://www.rfc-editor.org/rfc/rfc9110#section-14.4
    """
    text = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length")
    if text is None:
        return None
    size = int(text)
    if not 0 <= size <= MAX_SIZE:
        raise ValueError("the size is out of range")
    return size


def object_info(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return an object's metadata from the headers of a response, each within bounds. Raises ValueError."""
    last_modified = parse_date(headers.get("Last-Modified"))
    metadata = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-amz-meta-")}
    sends_them = any(name in headers for name in SENDER_HEADERS)
    return ObjectInfo(
        key,
        size,
        parse_etag(headers.get("ETag")) or weak_etag(size, last_modified),
        parse_version_id(headers.get("x-amz-version-id")),
        headers.get("Content-Type"),
        _whole_checksums(headers),
        last_modified,
        bool(metadata) or sends_them,
        sends_them,
        metadata,
    )


def _whole_checksums(headers: Mapping[str, str]) -> dict[Algorithm, str]:
    """Return the checksums of all bytes of an object. Those of a checksum for each part end with the parts' number."""
    values = {algorithm: headers.get(f"x-amz-checksum-{algorithm}") for algorithm in ALGORITHMS}
    is_whole = headers.get("x-amz-checksum-type", FULL_OBJECT) == FULL_OBJECT
    return {algorithm: value for algorithm, value in values.items() if is_whole and value and "-" not in value}


def written_object(headers: Mapping[str, str], body: bytes) -> WrittenObject:
    """Return the object that a successful response names. Raises ValueError, ParseError."""
    root = parse_xml(body)
    if root.tag not in ("CopyObjectResult", "CompleteMultipartUploadResult"):
        raise ValueError("the response is no result")
    etag = parse_etag(_text(root, "ETag")) or parse_etag(headers.get("ETag"))
    return WrittenObject(etag, parse_version_id(headers.get("x-amz-version-id")))


def upload_id_of(body: bytes) -> str:
    """Return the id of a multipart upload that was created. Raises ValueError, ParseError."""
    upload_id = _text(parse_xml(body), "UploadId")
    if not upload_id:
        raise ValueError("the response has no UploadId")
    return upload_id


# --- Listings ---------------------------------------------------------------------------------------------------------


class Upload(NamedTuple):
    """An unfinished multipart upload."""

    key: str
    upload_id: str
    initiated: datetime | None


class Part(NamedTuple):
    """An uploaded part; `size` in bytes, `etag` without quotes."""

    part_number: int
    etag: str
    last_modified: datetime | None
    size: int


class Page(NamedTuple):
    """A page of a listing: its document, and the parameters that the request for the next one adds; None at the end."""

    root: Element
    following: Mapping[str, str] | None

    def keys_are_encoded(self) -> bool:
        """Return True where the store says that it has encoded the keys, as it was asked to."""
        return self.root.findtext("EncodingType") == "url"


class Listing(NamedTuple):
    """One of S3's listings: its operation, the element of an item, and the parameters that ask for the next page.

    `markers` has the element of a page with each parameter's value, `own` that of the last item, for stores that tell
    none. One that tells only some may list in an order of its own, in which the others would mislead.
    """

    operation: str
    item: str
    markers: Mapping[str, str]
    own: Mapping[str, str]


OBJECTS = Listing(
    "ListObjectsV2",
    "Contents",
    {"continuation-token": "NextContinuationToken"},
    {"start-after": "Key"},
)
UPLOADS = Listing(
    "ListMultipartUploads",
    "Upload",
    {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"},
    {"key-marker": "Key", "upload-id-marker": "UploadId"},
)
PARTS = Listing(
    "ListParts", "Part", {"part-number-marker": "NextPartNumberMarker"}, {"part-number-marker": "PartNumber"}
)


def parse_page(body: bytes, listing: Listing) -> Page:
    """Return a page of a listing. Raises ParseError."""
    root = parse_xml(body)
    items = root.findall(listing.item)
    page = Page(root, None)
    if (root.findtext("IsTruncated") or "").strip().lower() != "true":
        return page
    values = {name: root.findtext(element) for name, element in listing.markers.items()}
    if items and not any(values.values()):
        values = {name: items[-1].findtext(element) for name, element in listing.own.items()}
    decode = unquote_plus if page.keys_are_encoded() else str
    following = {
        name: decode(value) if name in ("key-marker", "start-after") else value
        for name, value in values.items()
        if value
    }
    return page._replace(following=following or None)


def objects_of(page: Page) -> list[ObjectInfo]:
    """Return the objects on a page of ListObjectsV2. Raises ValueError."""
    return [_listed_object(item, page.keys_are_encoded()) for item in page.root.findall("Contents")]


def _listed_object(item: Element, is_encoded: bool) -> ObjectInfo:
    key, size = item.findtext("Key", ""), int(item.findtext("Size") or 0)
    last_modified = parse_date(item.findtext("LastModified"))
    etag = parse_etag(item.findtext("ETag")) or weak_etag(size, last_modified)
    return ObjectInfo(unquote_plus(key) if is_encoded else key, size, etag, None, None, {}, last_modified)


def uploads_of(page: Page) -> list[Upload]:
    """Return the uploads on a page of ListMultipartUploads."""
    decode = unquote_plus if page.keys_are_encoded() else str
    return [
        Upload(decode(item.findtext("Key", "")), item.findtext("UploadId", ""), parse_date(item.findtext("Initiated")))
        for item in page.root.findall("Upload")
    ]


def parts_of(page: Page) -> list[Part]:
    """Return the parts on a page of ListParts. Raises ValueError."""
    return [
        Part(
            int(item.findtext("PartNumber", "")),
            parse_etag(item.findtext("ETag")) or "",
            parse_date(item.findtext("LastModified")),
            int(item.findtext("Size") or 0),
        )
        for item in page.root.findall("Part")
    ]


def undeleted(body: bytes) -> dict[str, str]:
    """Return the error codes by key of a response to DeleteObjects, which is empty where all were deleted."""
    if not body.strip():
        return {}
    errors = parse_xml(body).findall("Error")
    return {error.findtext("Key", ""): error.findtext("Code", "InternalError") for error in errors}
