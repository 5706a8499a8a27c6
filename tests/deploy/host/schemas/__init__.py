"""The host's schemas, with the names of Loadbay's."""

from __future__ import annotations

from marshmallow import Schema, fields


class TrackSchema(Schema):
    """A track of the host's own."""

    title = fields.String()


class AlbumSchema(Schema):
    """An album, whose tracks have the schema that is registered under this name."""

    tracks = fields.Nested("TrackSchema", many=True)


assert AlbumSchema().dump({"tracks": [{"title": "a"}]}) == {"tracks": [{"title": "a"}]}
