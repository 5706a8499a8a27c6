"""Field types of requests and responses, each with its validation and its JSON Schema."""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from marshmallow import ValidationError, fields, validate

MAX_METADATA_BYTES = 16_384
MAX_BYTES_PER_CHARACTER = 6
"""Bytes of a character in JSON, at most: a control character is escaped."""

MAX_METADATA_DEPTH = 8
TRACK_STATUSES = ("initialized", "uploaded", "failed", "expired", "cancelled")

_uuid = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# RFC 9110, section 8.3.1, without the space around ';' that some clients would fold.
_tchar = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,127}"
_media = rf'{_tchar}/{_tchar}(?:; ?{_tchar}=(?:{_tchar}|"[!#-\[\]-~]*")){{0,4}}'
_media_type = re.compile(_media)
_ascii_file_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,254}")
_image_type = re.compile(rf"image/{_tchar}")
_time = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Bidirectional controls can make 'gpj.mp3' look like '3pm.jpg'. https://www.unicode.org/reports/tr36/
_bidi_controls = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def canonical_uuid(value: object) -> str:
    """Return a UUID (RFC 9562) in lower case. Raises ValueError for anything but 32 digits and four hyphens."""
    if not isinstance(value, str) or not _uuid.fullmatch(value):
        raise ValueError("must be a UUID such as 123e4567-e89b-12d3-a456-426614174000.")
    return value.lower()


def is_image_type(value: str) -> bool:
    """Return True for the media type of an image, without parameters."""
    return _image_type.fullmatch(value) is not None


def idempotency_key(value: str | None) -> str | None:
    """Return the key in an Idempotency-Key header; the quotes of the draft are optional. Raises ValueError."""
    if value is None:
        return None
    key = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise ValueError("must be 1 to 255 printable ASCII characters.")
    return key


# `json_schema` is what /openapi.json says about a field type besides what marshmallow's base class implies.


class UUIDString(fields.String):
    """A UUID, stored as lower-case text."""

    json_schema = {"format": "uuid", "example": "123e4567-e89b-12d3-a456-426614174000"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return canonical_uuid(value)
        except ValueError as e:
            raise ValidationError(str(e)) from e


class SingleLineString(fields.String):
    """One line of text without control characters, at most 255 characters."""

    json_schema = {"maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string.")
        if len(value) > 255:
            raise ValidationError("must have at most 255 characters.")
        if _control.search(value):
            raise ValidationError("must not contain control characters.")
        return value


class FileName(SingleLineString):
    """A file name: no path, not empty, without invisible characters that change how it reads."""

    json_schema = {
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]*$",
        "example": "track-1.mp3",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and _ascii_file_name.fullmatch(value):
            # Most names match, and then none of the checks below can fail.
            return value
        name = super()._deserialize(value, attr, data, **kwargs)
        if not name.strip(" .\u00a0\u3000") or not any(unicodedata.category(c)[0] not in "ZC" for c in name):
            raise ValidationError("must be a file name, not empty and not only spaces or dots.")
        if "/" in name or "\\" in name:
            raise ValidationError("must be a name, not a path: without folders, '/' and '\\'.")
        if _bidi_controls.search(name):
            raise ValidationError("must not contain bidirectional control characters.")
        return name


class StrictInteger(fields.Integer):
    """A JSON number without a fraction; strings and booleans are rejected."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise ValidationError("must be an integer.")
        return value


class QueryInteger(fields.Integer):
    """An integer in a URL's query, in decimal digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,10}", value):
            raise ValidationError("must be an integer.")
        return int(value)


class QueryBoolean(fields.Boolean):
    """true or false in a URL's query."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise ValidationError("must be true or false.")
        return bool(value == "true")


class FutureTime(fields.Field[int]):
    """A time in a request, ISO 8601 with its offset, as seconds since the epoch."""

    json_schema = {"type": "string", "format": "date-time", "example": "2030-01-31T12:00:00Z"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        try:
            if not isinstance(value, str) or not _time.fullmatch(value):
                raise ValueError
            return int(datetime.fromisoformat(value).timestamp())
        except (ValueError, OverflowError) as e:
            raise ValidationError("must be a time such as 2030-01-31T12:00:00Z.") from e


def in_range(low: int, high: int) -> validate.Range:
    """Return a validator for numbers from `low` to `high`, both included."""
    return validate.Range(low, high, error=f"must be from {low} to {high}.")


class StrictBoolean(fields.Boolean):
    """true or false; strings and numbers are rejected."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false.")
        return value


class Choice(fields.String):
    """One of a fixed set of strings."""

    def __init__(self, choices: Sequence[str], **kwargs: Any):
        super().__init__(validate=validate.OneOf(choices, error="must be one of: {choices}."), **kwargs)


class MediaType(fields.String):
    """A media type such as audio/mpeg."""

    json_schema = {"maxLength": 255, "pattern": f"^{_media}$", "example": "audio/mpeg"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or len(value) > 255 or not _media_type.fullmatch(value):
            raise ValidationError("must be a media type such as audio/mpeg.")
        return value


class Checksum(fields.String):
    """A checksum of a file in base64, the format of S3's `x-amz-checksum-` headers. A file has at most one."""

    def __init__(self, label: str, size: int, **kwargs: Any):
        """Accept a checksum of `size` bytes that people know as `label`."""
        super().__init__(**kwargs)
        self.label, self.size, self.characters = label, size, -(-size // 3) * 4
        # The last character before the padding has two or four bits that no byte has.
        body, last, padding = (size * 8 // 6, *(("[AQgw]", "==") if size % 3 == 1 else ("[AEIMQUYcgkosw048]", "=")))
        self.json_schema = {"pattern": f"^[A-Za-z0-9+/]{{{body}}}{last}{padding}$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        others = sorted(
            name for name in data if name.startswith("checksum_") and name != attr and data[name] is not None
        )
        if others:
            raise ValidationError(f"must be the only checksum, as S3 takes one; {others[0]} is set, too.")
        try:
            if (
                isinstance(value, str)
                and len(value) == self.characters
                and len(b64decode(value, validate=True)) == self.size
            ):
                return value
        except (binascii.Error, ValueError):
            pass
        raise ValidationError(f"must be a {self.label} in base64 ({self.characters} characters).")


class Metadata(fields.Dict):
    """A JSON object of the client's own, bounded in size and depth."""

    json_schema = {"additionalProperties": True, "example": {"title": "First Track"}}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("must be an object.")
        size = _approximate_json_size(value, MAX_METADATA_DEPTH)
        # Short text is not written as JSON to be measured: this is on the hot path.
        if MAX_METADATA_BYTES // MAX_BYTES_PER_CHARACTER < size <= MAX_METADATA_BYTES:
            size = len(orjson.dumps(value))
        if size > MAX_METADATA_BYTES:
            raise ValidationError(f"must have at most {MAX_METADATA_BYTES} bytes as JSON.")
        return value


def _approximate_json_size(value: object, depth: int) -> int:
    """Return roughly the characters of `value` as JSON. Raises ValidationError if it is nested too deeply."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValidationError(f"must not be nested deeper than {MAX_METADATA_DEPTH} levels.")
        if isinstance(value, list):
            return 2 + sum(_approximate_json_size(item, depth - 1) + 1 for item in value)
        return 2 + sum(len(key) + 4 + _approximate_json_size(item, depth - 1) for key, item in value.items())
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValidationError("must not contain integers beyond 64 bits.")
    return len(str(value))


# --- Responses -------------------------------------------------------------------------------------------------------


class TrackCounts(fields.Raw):
    """The number of tracks in each status."""

    json_schema = {
        "type": "object",
        "required": list(TRACK_STATUSES),
        "properties": {status: {"type": "integer"} for status in TRACK_STATUSES},
        "example": {"initialized": 0, "uploaded": 1, "failed": 0, "expired": 0, "cancelled": 0},
    }


class StringMap(fields.Raw):
    """An object of strings: HTTP headers or the fields of a form."""

    json_schema = {"type": "object", "additionalProperties": {"type": "string"}}
