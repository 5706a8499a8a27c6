"""The kinds of value that requests carry, each with its check."""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

from marshmallow import ValidationError, fields, validate

MAX_METADATA_CHARACTERS = 16_384
MAX_METADATA_DEPTH = 8

_uuid = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# RFC 9110, section 8.3.1, without the space around ';' that some clients would fold.
_tchar = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,127}"
_media = rf'{_tchar}/{_tchar}(?:; ?{_tchar}=(?:{_tchar}|"[!#-\[\]-~]*")){{0,4}}'
_media_type = re.compile(_media)
_ascii_file_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()-]{0,254}")
_image_type = re.compile(rf"image/{_tchar}")
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Marks that turn the reading direction make 'gpj.mp3' look like '3pm.jpg'. https://www.unicode.org/reports/tr36/
_bidi_controls = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def canonical_uuid(value: object) -> str:
    """`value` in lower case if it is a UUID of 32 hexadecimal digits and four hyphens (RFC 9562); else ValueError."""
    if not isinstance(value, str) or not _uuid.fullmatch(value):
        raise ValueError("must be a UUID such as 123e4567-e89b-12d3-a456-426614174000.")
    return value.lower()


def is_image_type(value: str) -> bool:
    """Whether `value` is a picture's media type, without parameters."""
    return _image_type.fullmatch(value) is not None


def idempotency_key(value: str | None) -> str | None:
    """The key in an Idempotency-Key header; the draft's quotes around it may be left out. Raises ValueError."""
    if value is None:
        return None
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not 1 <= len(bare) <= 255 or not bare.isascii() or not bare.isprintable():
        raise ValueError("must be 1 to 255 printable ASCII characters.")
    return bare


# `described` is what the API's document says of a field, as JSON Schema, beside what its type says already.


class UUIDString(fields.String):
    """A UUID, kept as lower-case text."""

    json_schema = {"format": "uuid", "example": "123e4567-e89b-12d3-a456-426614174000"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return canonical_uuid(value)
        except ValueError as e:
            raise ValidationError(str(e)) from e


class SingleLineString(fields.String):
    """One line of text without control characters, at most 255 characters."""

    described = {"maxLength": 255, "pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string.")
        if len(value) > 255:
            raise ValidationError("must have at most 255 characters.")
        if _control.search(value):
            raise ValidationError("must not hold control characters.")
        return value


class FileName(SingleLineString):
    """A file's own name: no path, not empty, nothing invisible that changes how it reads."""

    described = {
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]*$",
        "example": "track-1.mp3",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, str) and _ascii_file_name.fullmatch(value):
            # Most names are, and then none of what follows can be wrong with them.
            return value
        name = super()._deserialize(value, attr, data, **kwargs)
        if not name.strip(" .\u00a0\u3000") or not any(unicodedata.category(c)[0] not in "ZC" for c in name):
            raise ValidationError("must be a file's name, not empty, spaces or dots alone.")
        if "/" in name or "\\" in name:
            raise ValidationError("must be a name, not a path: leave out folders, '/' and '\\'.")
        if _bidi_controls.search(name):
            raise ValidationError("must not hold marks that change the direction of text.")
        return name


class StrictInteger(fields.Integer):
    """A JSON number without a fraction; a string or a truth value is not one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise ValidationError("must be a whole number.")
        return value


class QueryInteger(fields.Integer):
    """A whole number in a URL's query, in decimal digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,10}", value):
            raise ValidationError("must be a whole number.")
        return int(value)


def in_range(low: int, high: int) -> validate.Range:
    """A check that a number lies from `low` to `high`."""
    return validate.Range(low, high, error=f"must be from {low} to {high}.")


class StrictBoolean(fields.Boolean):
    """true or false, nothing that merely looks so."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("must be true or false.")
        return value


class Choice(fields.String):
    """One of a few words."""

    def __init__(self, choices: Sequence[str], **kwargs: Any):
        super().__init__(validate=validate.OneOf(choices, error="must be one of: {choices}."), **kwargs)


class MediaType(fields.String):
    """A media type such as audio/mpeg."""

    described = {"maxLength": 255, "pattern": f"^{_media}$", "example": "audio/mpeg"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or len(value) > 255 or not _media_type.fullmatch(value):
            raise ValidationError("must be a media type such as audio/mpeg.")
        return value


class SHA256Base64(fields.String):
    """A SHA-256 digest in base64, as x-amz-checksum-sha256 takes it."""

    described = {"pattern": "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            if isinstance(value, str) and len(value) == 44 and len(b64decode(value, validate=True)) == 32:
                return value
        except (binascii.Error, ValueError):
            pass
        raise ValidationError("must be a SHA-256 digest in base64 (44 characters).")


class Metadata(fields.Dict):
    """A JSON object of the caller's own, bounded in size and depth."""

    described = {"additionalProperties": True, "example": {"title": "First Track"}}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("must be an object.")
        if _approximate_json_size(value, MAX_METADATA_DEPTH) > MAX_METADATA_CHARACTERS:
            raise ValidationError(f"must not be larger than {MAX_METADATA_CHARACTERS} characters.")
        return value


def _approximate_json_size(value: object, depth: int) -> int:
    """About how many characters `value` takes as JSON. Raises ValidationError where it is nested too deeply."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, (dict, list)):
        if not depth:
            raise ValidationError(f"must not be nested more than {MAX_METADATA_DEPTH} deep.")
        if isinstance(value, list):
            return 2 + sum(_approximate_json_size(item, depth - 1) + 1 for item in value)
        return 2 + sum(len(key) + 4 + _approximate_json_size(item, depth - 1) for key, item in value.items())
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValidationError("must not hold whole numbers beyond 64 bits.")
    return len(str(value))
