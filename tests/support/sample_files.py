"""Small real files, generated on demand."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from hashlib import sha256


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


HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"


def digest(body: bytes) -> str:
    """Return the SHA-256 in base64."""
    return base64.b64encode(sha256(body).digest()).decode()
