"""Small real files, generated on demand."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from hashlib import sha256

from storage.formats.checksums import Algorithm, ChecksumReader


def wav(seconds: float = 0.05, seed: int = 0) -> bytes:
    """Return a mono WAV of 8 kHz; another `seed` gives other bytes of the same length."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", (n * 7 + seed * 131) % 3000) for n in range(int(8000 * seconds))))
    return out.getvalue()


def png(width: int = 3, height: int = 2) -> bytes:
    """Return a black PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int = 64, height: int = 48, before: int = 0) -> bytes:
    """Return the headers of a JPEG whose size follows `before` bytes of metadata, or a few more."""
    metadata = b"\xff\xe2\xff\xff" + bytes(65_533)
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x22\0\2\x11\1\3\x11\1"
    scan = b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0" + bytes(20)
    return b"\xff\xd8" + metadata * -(-before // 65_537) + frame + scan + b"\xff\xd9"


HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"


def checksum(algorithm: Algorithm, body: bytes) -> str:
    """Return a checksum in base64, computed piece by piece."""
    reader = ChecksumReader(algorithm)
    for start in range(0, len(body), 1000):
        reader.update(body[start : start + 1000])
    return reader.value()


def digest(body: bytes) -> str:
    """Return the SHA-256 in base64."""
    return base64.b64encode(sha256(body).digest()).decode()
