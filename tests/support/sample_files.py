"""Small real files, generated on demand."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from hashlib import sha256

from storage.formats.checksums import Algorithm, ChecksumReader


def wav(seconds: float = 0.05, seed: int = 0, *, rate: int = 8000, channels: int = 1, bits: int = 16) -> bytes:
    """Return a WAV, by default mono, of 8 kHz; another `seed` gives other bytes of the same length."""
    if (rate, channels, bits) != (8000, 1, 16):
        return _silent_wav(round(rate * seconds), rate, channels, bits)
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", (n * 7 + seed * 131) % 3000) for n in range(int(8000 * seconds))))
    return out.getvalue()


def _silent_wav(frames: int, rate: int, channels: int, bits: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(bits // 8)
        sound.setframerate(rate)
        sound.writeframes(bytes(frames * channels * bits // 8))
    return out.getvalue()


def audio(content: bytes = b"", size: int = 0) -> bytes:
    """Return a WAV that ends with `content`, padded to `size` bytes: audio, whatever its name says."""
    return (wav(0.01) + content).ljust(size, b".")


def mp3(seconds: float = 1, rate: int = 44_100) -> bytes:
    """Return a silent stereo MP3 of 128 kbit/s; `rate` is 44100, 48000 or 32000 Hz."""
    header = bytes([0xFF, 0xFB, 0x90 | (44_100, 48_000, 32_000).index(rate) << 2, 0])
    return (header + bytes(144 * 128_000 // rate - 4)) * round(seconds * rate / 1152)


def flac(seconds: float = 1, rate: int = 44_100, channels: int = 2, bits: int = 16) -> bytes:
    """Return a silent FLAC (RFC 9639) in whole blocks of 4096 samples."""
    blocks = max(1, round(seconds * rate / 4096))
    packed = rate << 44 | (channels - 1) << 41 | (bits - 1) << 36 | blocks * 4096
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    body = b"".join(_flac_frame(number, channels, bits) for number in range(blocks))
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info + body


def _flac_frame(number: int, channels: int, bits: int) -> bytes:
    header = bytes([0xFF, 0xF8, 0xC0, (channels - 1) << 4]) + chr(number).encode()
    frame = header + bytes([_crc(header, 8, 0x07)]) + (b"\0" + bytes(bits // 8)) * channels
    return frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")


def _crc(data: bytes, width: int, polynomial: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (width - 1) else 0)
            value &= (1 << width) - 1
    return value


def aiff(seconds: float = 1, rate: int = 44_100, channels: int = 2, bits: int = 16) -> bytes:
    """Return a silent AIFF."""
    frames, exponent = round(seconds * rate), rate.bit_length() - 1
    extended = struct.pack(">HQ", 16_383 + exponent, rate << (63 - exponent))
    common = b"COMM" + struct.pack(">IHIH", 18, channels, frames, bits) + extended
    sound = bytes(frames * channels * bits // 8)
    chunks = common + b"SSND" + struct.pack(">III", 8 + len(sound), 0, 0) + sound
    return b"FORM" + struct.pack(">I", 4 + len(chunks)) + b"AIFF" + chunks


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
