"""The audio that the benchmarks upload."""

from __future__ import annotations

import struct

HEADER_BYTES = 44


def wav_header(size: int) -> bytes:
    """Return the header of a WAV of `size` bytes: mono, 16 bits, 44.1 kHz."""
    sample_format = struct.pack("<HHIIHH", 1, 1, 44_100, 88_200, 2, 16)
    riff = struct.pack("<4sI4s", b"RIFF", size - 8, b"WAVE")
    format_chunk = struct.pack("<4sI", b"fmt ", len(sample_format)) + sample_format
    return riff + format_chunk + struct.pack("<4sI", b"data", size - HEADER_BYTES)
