"""Pictures: their types and sizes, what is none, and the limits on time, memory and requests."""

from __future__ import annotations

import gc
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from storage.formats.pictures import HEAD_BYTES, Picture, identify, identify_bytes
from support.sample_files import HTML, png

pytestmark = pytest.mark.sqlite

SAMPLES = sorted((Path(__file__).parent / "pictures").iterdir())
"""Pictures of 64 by 48 pixels, made by ImageMagick, FFmpeg, libheif, libavif and libwebp."""

CONTENTS = [path.read_bytes() for path in SAMPLES]
MEDIA_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff"}
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "15"))
MAX_SECONDS, MAX_MEMORY = 0.05, 8 * 2**20
MIB = 2**20


def identify_ranged(content: bytes) -> tuple[Picture | None, int, int]:
    """Return the picture, and the number and the bytes of ranged reads that it took."""
    lengths: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= len(content)
        lengths.append(length)
        return content[offset : offset + length]

    return identify(fetch, content[:HEAD_BYTES], len(content)), len(lengths), sum(lengths)


def by_suffix(kind: str) -> bytes:
    """Return the first sample whose name ends with `kind`."""
    return next(path.read_bytes() for path in SAMPLES if path.name.endswith(kind))


def segment(marker: int, content: bytes) -> bytes:
    """Return a JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(width: int = 64, height: int = 48, before: bytes = b"") -> bytes:
    """Return the headers of a JPEG with `before` ahead of the frame's header."""
    frame = segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1")
    return b"\xff\xd8" + before + frame + segment(0xDA, b"\3\1\0\2\x11\3\x11\0\x3f\0") + b"\0" * 20 + b"\xff\xd9"


def exif(orientation: int, order: str = ">") -> bytes:
    """Return an APP1 segment with Exif that has this orientation."""
    tiff = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, 1)
    return segment(0xE1, b"Exif\0\0" + tiff + struct.pack(f"{order}HHIHHI", 274, 3, 1, orientation, 0, 0))


def tiff(width: int, height: int, order: str = "<", big: bool = False, padding: int = 0) -> bytes:
    """Return a TIFF or BigTIFF whose directory follows `padding` bytes."""
    magic = b"II" if order == "<" else b"MM"
    if big:
        header = magic + struct.pack(f"{order}HHHQ", 43, 8, 0, 16 + padding)
        entries = b"".join(
            struct.pack(f"{order}HHQQ", tag, 16, 1, value) for tag, value in ((256, width), (257, height))
        )
        return header + bytes(padding) + struct.pack(f"{order}Q", 2) + entries + bytes(8)
    header = magic + struct.pack(f"{order}HI", 42, 8 + padding)
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in ((256, width), (257, height)))
    return header + bytes(padding) + struct.pack(f"{order}H", 2) + entries + bytes(4)


def bmp(width: int = 64, height: int = 48, header_size: int = 40, planes: int = 1, depth: int = 24) -> bytes:
    """Return a BMP."""
    layout = "<HHHH" if header_size == 12 else "<iiHH"
    header = struct.pack("<I", header_size) + struct.pack(layout, width, height, planes, depth)
    header += bytes(header_size - len(header))
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + header_size) + header + bytes(100)


def box(name: bytes, content: bytes) -> bytes:
    """Return a box of an ISO base media file."""
    return struct.pack(">I4s", len(content) + 8, name) + content


def heif(
    brands: bytes = b"heic\0\0\0\0mif1heic",
    before: bytes = b"",
    properties: tuple[bytes, ...] = (),
    handler: bytes = b"pict",
    width: int = 64,
    height: int = 48,
) -> bytes:
    """Return the boxes of a HEIF picture: two items, of which the second is the primary one and has `properties`."""
    extents = box(b"ispe", struct.pack(">III", 0, 7, 7)) + box(b"ispe", struct.pack(">III", 0, width, height))
    listed = box(b"ipco", extents + b"".join(properties))
    indexes = bytes([2, *range(0x83, 0x83 + len(properties))])
    associations = struct.pack(">IHBBHB", 2, 1, 1, 1, 2, len(indexes)) + indexes
    container = box(b"iprp", listed + box(b"ipma", bytes(4) + associations))
    primary = box(b"pitm", struct.pack(">IH", 0, 2))
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(8) + handler + bytes(13)) + primary + container)
    return box(b"ftyp", brands) + before + meta + box(b"mdat", bytes(20))


# --- What is a picture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SAMPLES, ids=[path.name for path in SAMPLES])
def test_recognizes_pictures_of_common_encoders(path):
    """Each sample has its type and its size; that of a turned picture is the size in which it is displayed."""
    kind = path.suffix[1:]
    picture, requests, _ = identify_ranged(path.read_bytes())
    assert picture is not None
    assert picture.media_type == MEDIA_TYPES.get(kind, f"image/{kind}")
    assert picture[1:] == ((48, 64) if "exif" in path.name else (64, 48))
    assert requests == 0


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", "<>")
def test_applies_the_orientation_of_exif(orientation, order):
    """Orientations 5 to 8 turn the picture by a quarter: width and height change places."""
    picture = identify_bytes(jpeg(before=exif(orientation, order)))
    assert picture == Picture("image/jpeg", *((48, 64) if orientation in (5, 6, 7, 8) else (64, 48)))


def test_ignores_broken_exif():
    """A picture with broken Exif is displayed all the same, as it is stored."""
    for content in (b"", b"MM", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"):
        assert identify_bytes(jpeg(before=segment(0xE1, b"Exif\0\0" + content))) == Picture("image/jpeg", 64, 48)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_recognizes_tiff_of_both_byte_orders(order, big):
    """TIFF and BigTIFF are recognized in both byte orders."""
    assert identify_bytes(tiff(640, 480, order, big)) == Picture("image/tiff", 640, 480)


@pytest.mark.parametrize("header_size", [12, 16, 40, 52, 56, 64, 108, 124])
def test_recognizes_all_headers_of_bmp(header_size):
    """BMP has headers of OS/2 and Windows; a picture that is stored from top to bottom has a negative height."""
    assert identify_bytes(bmp(header_size=header_size)) == Picture("image/bmp", 64, 48)
    if header_size > 12:
        assert identify_bytes(bmp(height=-48, header_size=header_size)) == Picture("image/bmp", 64, 48)


@pytest.mark.parametrize(
    ("brands", "media_type"),
    [
        (b"heic\0\0\0\0", "image/heic"),
        (b"heix\0\0\0\0mif1", "image/heic"),
        (b"mif1\0\0\0\0mif1heic", "image/heic"),
        (b"avif\0\0\0\0mif1miaf", "image/avif"),
        (b"mif1\0\0\0\0avifmif1", "image/avif"),
        (b"mif1\0\0\0\0mif1jpeg", "image/heif"),
        (b"isom\0\0\0\0isommp42", None),
        (b"crx \0\0\0\1crx isom", None),
    ],
)
def test_tells_heic_avif_and_others_apart(brands, media_type):
    """The brands tell which picture an ISO base media file is, or that it is none."""
    picture = identify_bytes(heif(brands))
    assert (picture.media_type if picture else None) == media_type


def test_reads_the_size_of_the_primary_item():
    """Of a HEIF picture's items the primary one counts, cut to its clean aperture and turned as it says."""
    aperture = box(b"clap", struct.pack(">8I", 63, 1, 47, 1, 0, 1, 0, 1))
    quarter, half = (box(b"irot", bytes([angle])) for angle in (1, 2))
    assert identify_bytes(heif(properties=(aperture,))) == Picture("image/heic", 63, 47)
    assert identify_bytes(heif(properties=(quarter,))) == Picture("image/heic", 48, 64)
    assert identify_bytes(heif(properties=(aperture, half))) == Picture("image/heic", 63, 47)


# --- What is none -----------------------------------------------------------------------------------------------------

SCRIPT = b"<script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
MAGICS = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF89a",
    b"RIFF\0\1\0\0WEBP",
    b"II*\0",
    b"MM\0+",
    b"BM",
    b"\0\0\0\x1cftypavif",
]
WRONG = {
    "empty": b"",
    "zeros": bytes(1000),
    "HTML": HTML,
    "SVG": SVG,
    "SVG with a declaration": b'<?xml version="1.0"?>' + SVG,
    "SVG with Kodak's magic at its offset": SVG.ljust(2048) + b"PCD_IPI",
    "GIF as a script": b"GIF89a=1;alert(1)//" + bytes(50),
    "PDF": b"%PDF-1.7\n%%EOF\n",
    "icon": b"\0\0\1\0\1\0\x10\x10" + bytes(50),
    "Photoshop": b"8BPS\0\1" + bytes(100),
    "MP4": box(b"ftyp", b"isom\0\0\2\0isommp42") + box(b"moov", bytes(100)),
    "HEIF with another handler": heif(handler=b"vide"),
    "HEIF without a picture": box(b"ftyp", b"heic\0\0\0\0mif1") + bytes(50),
    "JPEG without a frame": jpeg()[:2] + segment(0xE0, b"JFIF\0" + bytes(9)) + b"\xff\xd9",
    "JPEG with a scan first": b"\xff\xd8" + segment(0xDA, bytes(10)) + jpeg()[2:],
    "BMP of two planes": bmp(planes=2),
    "BMP of a strange depth": bmp(depth=7),
    "WAV": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
}
SIZED: dict[str, Callable[[int, int], bytes]] = {
    "PNG": lambda width, height: png_header(width, height),
    "JPEG": jpeg,
    "GIF": lambda width, height: b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0" + bytes(30),
    "TIFF": tiff,
    "BMP": bmp,
    "HEIC": lambda width, height: heif(width=width, height=height),
}


def png_header(width: int, height: int) -> bytes:
    """Return the begin of a PNG of this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", crc32(header)) + png()[33:]


@pytest.mark.parametrize("name", WRONG)
def test_rejects_what_is_no_picture(name):
    """Documents, scripts, other media, and headers that contradict themselves are no pictures."""
    assert identify_bytes(WRONG[name]) is None


@pytest.mark.parametrize("content", [SCRIPT, SVG, HTML, bytes(500), b" " * 500])
def test_rejects_a_magic_in_front_of_something_else(content):
    """A picture's magic alone makes no picture."""
    for magic in MAGICS:
        assert identify_bytes(magic + content) is None


@pytest.mark.parametrize("name", SIZED)
def test_rejects_zero_and_absurd_sizes(name):
    """A picture has a size, and not one that would exhaust whatever shows it."""
    build = SIZED[name]
    assert identify_bytes(build(64, 48)).width == 64
    largest = 65_535
    assert identify_bytes(build(1, largest if name != "BMP" else 30_000)) is not None
    for width, height in ((0, 48), (64, 0), (largest, largest)):
        assert identify_bytes(build(width, height)) is None
    if name not in ("JPEG", "GIF"):
        assert identify_bytes(build(70_000, 1)) is None


@pytest.mark.parametrize("path", SAMPLES, ids=[path.name for path in SAMPLES])
def test_rejects_truncated_headers(path):
    """A file that ends within the headers around its size is no picture, wherever it ends."""
    content = path.read_bytes()
    sizes = [end for end in range(len(content)) if identify_bytes(content[:end])]
    # From the shortest picture on, all are.
    assert sizes == list(range(sizes[0], len(content)))
    assert sizes[0] > 13


# --- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("megabytes", "requests"), [(0.2, 1), (2, 3), (3.8, 3)])
def test_finds_the_size_behind_megabytes_of_metadata(megabytes, requests):
    """The size of a JPEG is found behind megabytes of metadata with a few ranged reads."""
    metadata = segment(0xE2, random.Random(1).randbytes(65_000)) * int(megabytes * MIB / 65_000)
    content = jpeg(before=metadata) + bytes(200_000)
    picture, reads, fetched = identify_ranged(content)
    assert picture == Picture("image/jpeg", 64, 48)
    assert reads == requests
    assert fetched <= 4 * MIB


def test_finds_a_directory_at_the_end_with_one_request():
    """The directory of a TIFF, and the metadata of a HEIC, may follow megabytes of pixels."""
    assert identify_ranged(tiff(640, 480, padding=5 * MIB))[:2] == (Picture("image/tiff", 640, 480), 1)
    picture, requests, _ = identify_ranged(heif(before=box(b"mdat", bytes(5 * MIB))))
    assert (picture, requests) == (Picture("image/heic", 64, 48), 1)


def hostile_inputs() -> dict[str, bytes]:
    """Return inputs that make a parser read, step or allocate as much as it can."""
    brands = box(b"ftyp", b"heic\0\0\0\0mif1")
    many = box(b"free", b"") * 500_000
    deep = b""
    for _ in range(200_000 // 8):
        deep = struct.pack(">I4s", 0, b"meta") + deep
    items = b"".join(struct.pack(">HB", 1, 0) for _ in range(1_000_000))
    table = box(b"iprp", box(b"ipco", b"") + box(b"ipma", struct.pack(">II", 0, 2**32 - 1) + items))
    head = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", bytes(6))
    return {
        "fill bytes": b"\xff\xd8" + b"\xff" * 5 * MIB,
        "empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * MIB,
        "standalone markers": b"\xff\xd8\xff" + b"\xd0\xff" * 2 * MIB,
        "stuffed bytes": b"\xff\xd8\xff\xe0\0\2" + b"\xff\0" * 2 * MIB,
        "extraneous bytes": b"\xff\xd8\xff" + (b"\xd0" + b"\0" * 2045 + b"\xff") * 2000,
        "many Exif": b"\xff\xd8" + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(65_000)) * 60,
        "many entries": b"II*\0\x08\0\0\0\xff\xff" + bytes(4 * MIB),
        "many big entries": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff" * 8 + bytes(4 * MIB),
        "far directory": b"MM\0+\0\x08\0\0" + b"\xff" * 8 + bytes(100),
        "boxes": brands + many,
        "boxes in meta": brands + box(b"meta", bytes(4) + many),
        "boxes in boxes": brands + deep,
        "boxes of properties": brands + box(b"meta", bytes(4) + head + box(b"iprp", box(b"ipco", many))),
        "items": brands + box(b"meta", bytes(4) + head + table),
        "a box of 2^64 bytes": brands + struct.pack(">I4sQ", 1, b"meta", 2**64 - 1) + bytes(100),
        "brands": struct.pack(">I4s", 4 * MIB, b"ftyp") + b"mif1" * MIB,
    }


HOSTILE = hostile_inputs()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_stays_within_the_budget(name):
    """No input takes more than 50 ms, 8 MiB and four requests."""
    content = HOSTILE[name]
    seconds, _ = measure_time(content)
    assert seconds < MAX_SECONDS
    assert measure_memory(content) < MAX_MEMORY


def measure_time(content: bytes) -> tuple[float, Picture | None]:
    """Return the CPU seconds that identifying `content` takes, and the picture."""
    # A collection of what other tests have left may fall into the measurement.
    gc.disable()
    try:
        started = time.thread_time()
        picture, requests, fetched = identify_ranged(content)
        seconds = time.thread_time() - started
    finally:
        gc.enable()
    assert requests <= 4
    assert fetched <= 4 * MIB
    if picture is not None:
        assert picture.media_type.startswith("image/")
        assert 0 < picture.width <= 65_535
        assert 0 < picture.height <= 65_535
    return seconds, picture


def measure_memory(content: bytes) -> int:
    """Return the bytes that identifying `content` takes at its peak."""
    tracemalloc.start()
    try:
        identify_ranged(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


NUMBERS = (0, 1, 2, 7, 8, 12, 16, 42, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
NAMES = (b"ftyp", b"meta", b"iprp", b"ipco", b"ipma", b"ispe", b"pitm", b"hdlr", b"irot", b"clap", b"free", b"mdat")


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Return `content` with a few bytes or numbers changed, pieces removed, repeated or taken from another sample."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8, 30))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 16, 64, 300))
        change = rng.randrange(7)
        if change == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS))
        elif change == 2:
            data[at : at + 2] = struct.pack(rng.choice("<>") + "H", rng.choice(NUMBERS) & 0xFFFF)
        elif change == 3:
            del data[at : at + length]
        elif change == 4:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif change == 5:
            other = rng.choice(CONTENTS)
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + length]
        else:
            data[at:at] = rng.choice((b"\xff", b"\0", rng.randbytes(4))) * rng.choice((1, 100, 70_000))
    return bytes(data[: 5 * MIB])


def structure(rng: random.Random, depth: int = 0) -> bytes:
    """Return boxes, segments, directories or chunks of random content that fit together more or less."""
    kind = rng.randrange(4)
    count = rng.choice((0, 1, 3, 20, 1000))
    if kind == 0:
        inner = structure(rng, depth + 1) if depth < 5 and rng.random() < 0.7 else rng.randbytes(rng.randrange(40))
        boxes = b"".join(
            box(rng.choice(NAMES), bytes(rng.choice((0, 4))) + inner[:2000]) for _ in range(min(count, 20))
        )
        return (box(b"ftyp", b"heic\0\0\0\0mif1") if depth == 0 else b"") + boxes
    if kind == 1:
        segments = (segment(rng.randrange(0xC0, 0xFF), rng.randbytes(rng.randrange(60))) for _ in range(count))
        return b"\xff\xd8" + b"".join(segments)
    if kind == 2:
        order = rng.choice("<>")
        entry = struct.pack(
            order + "HHII", rng.choice((256, 257, 274, 0)), rng.choice((1, 3, 4, 16)), 1, rng.choice(NUMBERS)
        )
        return (
            tiff(1, 1, order, padding=rng.choice((0, 9, 90_000)))[:-26]
            + struct.pack(order + "H", count)
            + entry * count
        )
    return rng.choice(MAGICS) + rng.randbytes(rng.randrange(2000))


def fuzz(seconds: float, seed: int) -> tuple[int, int, float, int]:
    """Return the numbers of inputs and pictures, the longest time (seconds) and the most memory (bytes)."""
    rng, ends = random.Random(seed), time.monotonic() + seconds
    inputs = pictures = memory = 0
    slowest = 0.0
    while time.monotonic() < ends:
        content = mutated(rng, rng.choice(CONTENTS)) if rng.random() < 0.8 else structure(rng)
        elapsed, picture = measure_time(content)
        slowest, inputs, pictures = max(slowest, elapsed), inputs + 1, pictures + (picture is not None)
        # Tracing costs more than the parsers do: every tenth input is traced.
        memory = max(memory, measure_memory(content) if inputs % 10 == 0 else 0)
        assert elapsed < MAX_SECONDS, (seed, inputs)
        assert memory < MAX_MEMORY, (seed, inputs)
    return inputs, pictures, slowest, memory


@pytest.mark.slow
def test_random_input_stays_within_the_budget():
    """Mutations of every kind of picture, and random structures, raise nothing and stay within the budget."""
    inputs, pictures, _, _ = fuzz(FUZZ_SECONDS, seed=int(os.environ.get("FUZZ_SEED", "1")))
    assert inputs > 1000
    assert pictures > 100
