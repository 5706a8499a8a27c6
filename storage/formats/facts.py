"""Facts about a file, read from its own headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class EmbeddedPicture:
    """A cover inside an audio file: its media type, position and size (bytes).

    `offset` is None where the bytes are not stored as they are and in one piece, as in Ogg.
    """

    media_type: str
    offset: int | None
    size: int


@dataclass(frozen=True)
class AudioFacts:
    """The properties of an audio file by its own headers. None stands for what they do not tell.

    `container` and `codec` are lower-case names, such as `wav` and `pcm`, or `mp4` and `aac`. `duration` is
    in seconds, and `exact` is False where it was estimated. `sample_rate` is in Hz, `bit_rate` in bits a second.
    """

    container: str
    codec: str | None = None
    duration: float | None = None
    exact: bool = False
    sample_rate: int | None = None
    channels: int | None = None
    bit_depth: int | None = None
    bit_rate: int | None = None
    tags: dict[str, str | int] = field(default_factory=dict)
    picture: EmbeddedPicture | None = None

    def content(self) -> dict[str, Any]:
        """Return the facts as the API shows them: of an embedded picture, its media type and size (bytes)."""
        picture = self.picture and {"type": self.picture.media_type, "size": self.picture.size}
        # dataclasses.asdict would copy each value, which takes longer than the request for the file.
        return {**vars(self), "picture": picture}
