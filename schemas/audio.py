"""Facts about an audio file, read from its own headers."""

from __future__ import annotations

from marshmallow import fields

from .base import ResponseSchema, doc

TAGS = {"title": "First Track", "artist": "The Band", "album": "Summer", "track_number": 1}


class AudioTagsSchema(ResponseSchema):
    """Tags of an audio file: those that it has, without control characters, at most 255 characters each."""

    title = fields.String(metadata=doc("Title.", "First Track", optional=True))
    artist = fields.String(metadata=doc("Artist; several are separated by `; `.", "The Band", optional=True))
    album = fields.String(metadata=doc("Album.", "Summer", optional=True))
    track_number = fields.Integer(metadata=doc("Number of the track on its disc.", 1, optional=True))
    disc_number = fields.Integer(metadata=doc("Number of the disc.", 1, optional=True))
    isrc = fields.String(metadata=doc("ISRC without hyphens.", "USRC17607839", optional=True))


class EmbeddedPictureSchema(ResponseSchema):
    """A picture inside an audio file."""

    type = fields.String(metadata=doc("Media type.", "image/jpeg"))
    size = fields.Integer(metadata=doc("Size in bytes.", 250_000))


class AudioSchema(ResponseSchema):
    """Facts about an audio file, as its own headers have them; null stands for what they do not tell."""

    container = fields.String(metadata=doc("Kind of file, such as `mp3`, `wav`, `flac`, `mp4` or `ogg`.", "mp3"))
    codec = fields.String(
        allow_none=True, metadata=doc("Coding of the sound, such as `mp3`, `pcm`, `flac`, `aac` or `opus`.", "mp3")
    )
    duration = fields.Float(allow_none=True, metadata=doc("Duration in seconds.", 215.04))
    exact = fields.Boolean(metadata=doc("False if `duration` was estimated.", True))
    sample_rate = fields.Integer(allow_none=True, metadata=doc("Samples a second, in Hz.", 44_100))
    channels = fields.Integer(allow_none=True, metadata=doc("Number of channels.", 2))
    bit_depth = fields.Integer(
        allow_none=True, metadata=doc("Bits in a sample; null for lossy codecs, which have none.", None)
    )
    bit_rate = fields.Integer(
        allow_none=True, metadata=doc("Bits a second: as declared, or else the file's mean.", 320_000)
    )
    tags = fields.Nested(AudioTagsSchema, metadata=doc("Tags.", TAGS))
    picture = fields.Nested(EmbeddedPictureSchema, allow_none=True, metadata=doc("The embedded cover, if any."))
