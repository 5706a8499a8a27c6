"""An upload page: what it says and how it looks, and the fields that it asks for with each track."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import orjson
from marshmallow import ValidationError, fields, validate

from .base import RequestSchema, doc
from .fields import SingleLineString, StrictBoolean

MAX_FIELDS, MAX_CHOICES, MAX_FIELDS_BYTES = 32, 100, 8192
MAX_ADDRESS = 1024
PAGE = {"title": "Summer 2024", "sender": "Example Records", "accent_color": "#0a6b4f"}
FIELDS = [{"name": "isrc", "label": "ISRC", "required": True}, {"name": "explicit", "one_of": ["yes", "no"]}]

_control = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
# RFC 5646, without extensions and private use.
_language = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?")
_image_file = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\.(svg|png|jpe?g|webp|avif|gif)")
_field_name = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def _matches(pattern: str, text: str) -> validate.Regexp:
    return validate.Regexp(rf"{pattern}\Z", error=f"must be {text}.")


class PlainText(fields.String):
    """Text of several lines, without markup; at most 2,000 characters."""

    json_schema = {"maxLength": 2000}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("must be a string.")
        if len(value) > 2000:
            raise ValidationError("must have at most 2000 characters.")
        text = value.replace("\r\n", "\n")
        if _control.search(text):
            raise ValidationError("must not contain control characters, other than the ends of lines.")
        return text


class WebAddress(fields.String):
    """The https address of a page; `schemes` may allow others."""

    json_schema = {"maxLength": 1024, "format": "uri"}

    def __init__(self, *schemes: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.schemes = ("https", *schemes)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not is_address(value, self.schemes):
            raise ValidationError(f"must be an address that begins with {' or '.join(f'{s}:' for s in self.schemes)}.")
        return value


def is_address(value: str, schemes: tuple[str, ...] = ("https",)) -> bool:
    """Return True for an absolute URL of one of these schemes, in ASCII and without a password."""
    if (
        len(value) > MAX_ADDRESS
        or not value.isascii()
        or not value.isprintable()
        or re.search(r"[\s\"'<>\\^`{|}]", value)
    ):
        return False
    try:
        parts = urlsplit(value)
        # Reading `port` validates it.
        usable = parts.port != 0 and parts.username is None
    except ValueError:
        return False
    return usable and parts.scheme in schemes and bool(parts.hostname or (parts.scheme != "https" and parts.path))


class ImageAddress(fields.String):
    """The https address of an image, or the name of one in the folder of the setting PAGE_FOLDER."""

    json_schema = {"maxLength": 1024}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not (_image_file.fullmatch(value) or is_address(value)):
            raise ValidationError("must be an https address, or the name of an image in PAGE_FOLDER.")
        return value


def _line(description: str, example: str | None, limit: int = 200) -> SingleLineString:
    size = validate.Length(1, limit, error=f"must have 1 to {limit} characters.")
    return SingleLineString(allow_none=True, load_default=None, validate=size, metadata=doc(description, example))


class PageSchema(RequestSchema):
    """Text and look of an upload page. A member that is absent or null comes from the key, organization or settings.

    Loading returns the members that are set.
    """

    title = _line("Heading of the page.", "Summer 2024")
    sender = _line("Name of whoever asks for the files.", "Example Records")
    greeting = PlainText(
        allow_none=True, load_default=None, metadata=doc("A few words above the files, as plain text.", None)
    )
    logo_url = ImageAddress(
        allow_none=True,
        load_default=None,
        metadata=doc("Logo: a URL of an origin in PAGE_IMAGE_ORIGINS, or the name of an image in PAGE_FOLDER.", None),
    )
    background_url = ImageAddress(
        allow_none=True, load_default=None, metadata=doc("Picture behind the page; as `logo_url`.", None)
    )
    accent_color = SingleLineString(
        allow_none=True,
        load_default=None,
        validate=_matches("#[0-9a-fA-F]{6}", "a color such as #0a6b4f"),
        metadata=doc("Color of buttons and progress.", "#0a6b4f"),
    )
    terms_url = WebAddress(allow_none=True, load_default=None, metadata=doc("Address of the terms.", None))
    privacy_url = WebAddress(allow_none=True, load_default=None, metadata=doc("Address of the privacy notice.", None))
    help_url = WebAddress(
        "mailto", allow_none=True, load_default=None, metadata=doc("Address for help: a page or mailto:.", None)
    )
    language = SingleLineString(
        allow_none=True,
        load_default=None,
        validate=_matches(_language.pattern, "a language such as de or pt-BR"),
        metadata=doc("Language of the page (BCP 47). Without it, the browser's.", None),
    )
    allow_changes = StrictBoolean(
        allow_none=True,
        load_default=None,
        metadata=doc("If false, what has arrived cannot be renamed, replaced or removed on the page.", True),
    )

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the members that are set. Raises ValidationError."""
        return {name: value for name, value in super().load(data).items() if value is not None}


class PageChanges(PageSchema):
    """Changes of a page: null in a member takes back what the session says of it."""

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the members that are given, None included. Raises ValidationError."""
        loaded = super().load(data)
        return {name: loaded.get(name) for name in self.fields if name in data}


class Choices(fields.List):  # type: ignore[type-arg]
    """The values of a field: different texts of one line."""

    json_schema = {"minItems": 1, "maxItems": MAX_CHOICES, "uniqueItems": True}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        items = value if isinstance(value, list) else []
        if not 1 <= len(items) <= MAX_CHOICES or not all(isinstance(item, str) and item for item in items):
            raise ValidationError(f"must be a list of 1 to {MAX_CHOICES} texts.")
        if len(set(items)) < len(items):
            raise ValidationError("must not have an item twice.")
        return [self.inner._deserialize(item, attr, data) for item in items]


class FieldSchema(RequestSchema):
    """A field that the page asks for with each track; its value is in the track's `metadata` under `name`."""

    name = SingleLineString(
        required=True,
        validate=_matches(_field_name.pattern, "a name of 1 to 64 letters, digits and _ that begins with a letter"),
        metadata=doc("Key of the value in the track's `metadata`.", "isrc"),
    )
    label = _line("Label on the page. Without it, the name.", "ISRC")
    required = StrictBoolean(
        allow_none=True,
        load_default=False,
        metadata=doc("If true, the page asks for the value before the session is closed.", True),
    )
    one_of = Choices(
        SingleLineString(),
        allow_none=True,
        load_default=None,
        metadata=doc("The values to choose from. A track with any other is rejected.", None),
    )

    def load(self, data: Any, **_: Any) -> dict[str, Any]:
        """Return the field with all of its members. Raises ValidationError."""
        field = super().load(data)
        return {**field, "label": field["label"] or field["name"], "required": bool(field["required"])}


class FieldList(fields.List):  # type: ignore[type-arg]
    """Fields with different names."""

    json_schema = {"maxItems": MAX_FIELDS}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_FIELDS:
            raise ValidationError(f"must be a list of at most {MAX_FIELDS} fields.")
        items, errors, schema = [], {}, FieldSchema()
        for number, item in enumerate(value):
            try:
                items.append(schema.load(item))
            except ValidationError as e:
                errors[number] = e.messages
        if errors:
            raise ValidationError(errors)
        if len({item["name"] for item in items}) < len(items):
            raise ValidationError("must not have a name twice.")
        if len(orjson.dumps(items)) > MAX_FIELDS_BYTES:
            raise ValidationError(f"must have at most {MAX_FIELDS_BYTES} bytes as JSON.")
        return items


def field_list(description: str, default: Any = None) -> FieldList:
    """Return the parameter `fields` of a session."""
    return FieldList(
        fields.Nested(FieldSchema),
        data_key="fields",
        attribute="fields",
        allow_none=True,
        load_default=default,
        metadata=doc(description, FIELDS),
    )
