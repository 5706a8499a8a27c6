"""The audio that the benchmarks upload."""

from __future__ import annotations

import struct

HEADER_BYTES = 44


def wav_header(size: int) -> bytes:
    """Return the header of a WAV of `size` bytes: mono, 16 bits, 44.1 kHz."""
    sizes = size - 8, 16, size - HEADER_BYTES
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        sizes[0],
        b"WAVE",
        b"fmt ",
        sizes[1],
        1,
        1,
        44_100,
        88_200,
        2,
        16,
        b"data",
        sizes[2],
    )
