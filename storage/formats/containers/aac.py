"""The configuration of AAC (ISO/IEC 14496-3), as MP4 and LOAS have it."""

from __future__ import annotations

from storage.formats.media import Media

AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
SPECTRAL_BAND_REPLICATION, PARAMETRIC_STEREO = 5, 29


class Bits:
    """Bits of some bytes, from the first; zeros follow the last."""

    def __init__(self, data: bytes):
        self._value, self._left = int.from_bytes(data, "big") << 128, len(data) * 8 + 128

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        return self._value >> max(self._left, 0) & (1 << count) - 1


def parse_config(bits: Bits, media: Media) -> None:
    """Read an AudioSpecificConfig (1.6.2.1): with band replication, the rate that is heard is a higher one."""
    kind = _object_type(bits)
    rate, channels = _rate(bits), bits.take(4)
    if kind in (SPECTRAL_BAND_REPLICATION, PARAMETRIC_STEREO):
        rate = _rate(bits)
    if rate:
        media.sample_rate = rate
    if 0 < channels < 8:
        media.channels = 8 if channels == 7 else channels
    if kind == PARAMETRIC_STEREO and channels == 1:
        media.channels = 2


def parse_stream_config(data: bytes, media: Media) -> None:
    """Read the StreamMuxConfig of an AudioMuxElement (1.7.3.1), if it is of the common version 0."""
    bits = Bits(data)
    same, version = bits.take(1), bits.take(1)
    if same == 0 and version == 0:
        # allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer
        bits.take(1 + 6 + 4 + 3)
        parse_config(bits, media)


def _object_type(bits: Bits) -> int:
    kind = bits.take(5)
    return 32 + bits.take(6) if kind == 31 else kind


def _rate(bits: Bits) -> int:
    index = bits.take(4)
    if index == 15:
        return bits.take(24)
    return AAC_RATES[index] if index < len(AAC_RATES) else 0
