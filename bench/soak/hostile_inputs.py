"""Hostile inputs: files that are not what is declared, pictures that are none, and odd requests, all from a seed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4
from zlib import crc32

from ..audio import wav_header

HTML = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"
MAX_SIZE = 2**31 - 1
DEPTH = 100_000


@dataclass
class HostileFile:
    """A file, the payload that registers it, and the headers that it is sent with.

    `may_pass` says that `uploaded` may be right: the bytes are what was declared, if perhaps with odd headers.
    """

    name: str
    body: bytes
    payload: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    may_pass: bool = False


def wav(rng: random.Random, size: int = 20_000) -> bytes:
    """Return a WAV of `size` bytes, all of them different."""
    header = wav_header(size)
    return header + rng.randbytes(size - len(header))


def declaration(body: bytes, *, size: bool = True, checksum: bool = True) -> dict[str, Any]:
    """Return the payload that declares these bytes."""
    payload: dict[str, Any] = {"file_size": len(body)} if size else {}
    if checksum:
        payload["checksum_sha256"] = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return payload


def mutate(rng: random.Random, body: bytes, changes: int = 8) -> bytes:
    """Return the bytes with some of them changed, always to others."""
    mutated = bytearray(body)
    for _ in range(changes if body else 0):
        mutated[rng.randrange(len(mutated))] ^= rng.randint(1, 255)
    return bytes(mutated) if mutated != body else body + b"."


def hostile_file(rng: random.Random) -> HostileFile:
    """Return one of the hostile files. Its payload has a name of a format that always shows itself."""
    body = wav(rng, rng.randint(2000, 200_000))
    cut, odd = body[: rng.randrange(len(body))], mutate(rng, body)
    write_once = {"write_once": rng.random() < 0.3}
    files = [
        HostileFile("HTML", HTML),
        HostileFile("HTML behind blanks", b" \r\n" * rng.randint(1, 500) + HTML),
        HostileFile("zeros", bytes(rng.randint(1, 300_000))),
        HostileFile("empty", b""),
        HostileFile("ZIP", b"PK\3\4" + rng.randbytes(1000)),
        HostileFile("PNG", png(64, 48)),
        HostileFile("gzip of audio", gzip.compress(body), headers={"Content-Encoding": "gzip"}),
        HostileFile("truncated, size declared", cut, declaration(body, checksum=False)),
        HostileFile("truncated, checksum declared", cut, declaration(body, size=False)),
        HostileFile("mutated, checksum declared", odd, declaration(body)),
        HostileFile("longer than declared", body + rng.randbytes(rng.randint(1, 100)), declaration(body)),
        HostileFile("truncated", cut, may_pass=True),
        HostileFile("mutated header", mutate(rng, body[:200]) + body[200:], may_pass=True),
        HostileFile("random", rng.randbytes(rng.randint(1, 100_000)), may_pass=True),
        HostileFile("false Content-Encoding", body, headers={"Content-Encoding": "gzip"}, may_pass=True),
        HostileFile("odd headers", body, headers=sender_headers(rng), may_pass=True),
    ]
    chosen = rng.choice(files)
    extension = rng.choice(("wav", "mp3", "flac", "m4a", "ogg", "aiff"))
    chosen.payload = {"file_name": f"hostile.{extension}", **chosen.payload, **write_once}
    return chosen


def sender_headers(rng: random.Random) -> dict[str, str]:
    """Return headers that a sender would like the object to have."""
    return {
        "Content-Type": rng.choice(("text/html", "image/svg+xml", "audio/mpeg; x=" + "y" * 500)),
        "Content-Disposition": 'attachment; filename="../../etc/passwd"',
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Language": "x" * rng.randint(1, 1000),
        "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    }


# --- Pictures --------------------------------------------------------------------------------------------------------


class HostilePicture(NamedTuple):
    """A file that is sent as a cover. `may_pass` says that it may be a picture by chance."""

    name: str
    body: bytes
    content_type: str = "image/jpeg"
    may_pass: bool = False


MAGICS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0",
    b"RIFF\xff\xff\xff\x7fWEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8X", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypavif",
)  # fmt: skip


def png(width: int, height: int) -> bytes:
    """Return a PNG of this size whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def box(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return a box of an ISO base media file, with a wrong size if one is given."""
    return struct.pack(">I4s", len(content) + 8 if size is None else size, name) + content


def heic_bomb(rng: random.Random) -> bytes:
    """Return the boxes of a HEIC with nesting, sizes and counts that make a careless parser run for long."""
    start = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    nested = b""
    for _ in range(rng.choice((10, 1000, 5000))):
        nested = box(b"iprp", nested)
    large = struct.pack(">I4sQ", 1, b"meta", 2**63 - 1)
    entries = struct.pack(">IIHB", 0, 2**32 - 1, 1, 255)
    bomb = rng.choice((
        box(b"meta", bytes(4) + nested),
        large + bytes(100),
        box(b"meta", bytes(4) + box(b"ipma", entries + b"\xff" * 1000)),
        box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", b"", 0) * 5000))),
        b"".join(box(b"free", b"") for _ in range(10_000)),
    ))  # fmt: skip
    return start + bomb


def hostile_picture(rng: random.Random) -> HostilePicture:
    """Return one of the hostile pictures."""
    netpbm = f"P{rng.randint(1, 7)} {2**63} {2**63} 255\n".encode()
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
    pictures = [
        HostilePicture("PNG of 2^31 pixels", png(MAX_SIZE, rng.choice((1, MAX_SIZE))), "image/png"),
        HostilePicture("PNG without pixels", png(0, 0), "image/png"),
        HostilePicture("Netpbm of 2^63", netpbm + bytes(50), "image/x-portable-pixmap"),
        HostilePicture("SVG", svg, "image/svg+xml"),
        HostilePicture("HEIC bomb", heic_bomb(rng), "image/heic"),
        HostilePicture("HTML", HTML),
        HostilePicture("one byte", rng.randbytes(1)),
        HostilePicture(
            "random behind a magic", rng.choice(MAGICS) + rng.randbytes(rng.randint(0, 50_000)), may_pass=True
        ),
    ]
    return rng.choice(pictures)


# --- Requests --------------------------------------------------------------------------------------------------------


class RawRequest(NamedTuple):
    """The bytes of a request, and a name for the report."""

    name: str
    data: bytes


def raw_request(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    """Return the bytes of a request after which the connection is closed. `headers` may replace any of ours."""
    fields = {"Host": "localhost", "Connection": "close"}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + (body or b"")


def hostile_request(rng: random.Random, session_id: str, api_key: str) -> RawRequest:
    """Return one of the hostile requests: an odd body, odd headers, or an odd path, to a session that is open."""
    make = rng.choice((_odd_body, _odd_body, _odd_headers, _odd_path))
    name, method, path, headers, body = make(rng, session_id)
    return RawRequest(name, raw_request(method, path, {"Authorization": f"Bearer {api_key}", **headers}, body))


Parts = tuple[str, str, str, dict[str, str], bytes | None]


def _odd_body(rng: random.Random, session_id: str) -> Parts:
    path, valid = rng.choice((
        ("/v1/upload_session", {"collection_id": str(uuid4()), "metadata": {"a": [1, "x"]}}),
        (f"/v1/upload/{session_id}/track", {"file_name": "a.mp3", "metadata": {"a": 1}}),
        (f"/v1/upload/{session_id}/tracks", {"tracks": [{"file_name": "a.mp3"}] * 3}),
        (f"/v1/upload/{session_id}/complete", {"track_ids": [str(uuid4())]}),
        ("/v1/store_event", {"Records": [{"s3": {"object": {"key": "a"}}}]}),
    ))  # fmt: skip
    name, make = rng.choice(BODIES)
    body = make(rng, valid)
    return name, "POST", path, {}, body


def huge_metadata(rng: random.Random, valid: dict[str, Any]) -> bytes:
    """Return a payload with metadata around the limit of one value, or of a body."""
    metadata = rng.choice(({"a": "x" * rng.choice((16_384, 250_000, 2**21))}, {str(n): n for n in range(20_000)}))
    return json.dumps({**valid, "metadata": metadata}).encode()


def huge_batch(rng: random.Random, _valid: dict[str, Any]) -> bytes:
    """Return a batch with as many tracks as one may have, or more; half of them have a wrong track."""
    names, padding = rng.choice((("a.mp3",), ("a.mp3", "", "a/b"))), "x" * rng.choice((0, 100, 1500))
    count = rng.choice((1000, 1001, 5000))
    tracks = [{"file_name": rng.choice(names), "metadata": {"a": padding}} for _ in range(count)]
    return json.dumps({"tracks": tracks}).encode()


def many_keys(count: int) -> bytes:
    """Return an object with so many keys, of which the last is a duplicate."""
    keys = [f'"{number:x}":1' for number in range(count)]
    return ("{" + ",".join([*keys, keys[-1]]) + "}").encode()


def odd_value(rng: random.Random) -> Any:
    """Return a JSON value of some kind."""
    return rng.choice((
        None, True, -1, 10**30, 1.5, "", "x" * 5000, "../../etc/passwd", [], {}, [[]], [None] * 100, "\u202e", "a\r\nb",
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {}}}}}}}}},
    ))  # fmt: skip


BODIES: tuple[tuple[str, Callable[[random.Random, dict[str, Any]], bytes]], ...] = (
    ("odd JSON", lambda rng, valid: mutate(rng, json.dumps(valid).encode(), rng.randint(1, 4))),
    ("odd JSON", lambda rng, valid: json.dumps({**valid, rng.choice(list(valid)): odd_value(rng)}).encode()),
    ("odd JSON", lambda rng, valid: json.dumps(valid).encode("utf-16")),
    ("odd JSON", lambda rng, valid: rng.randbytes(rng.randint(0, 5000))),
    ("odd JSON", lambda rng, valid: b'{"metadata": {"a": ' + b"9" * 5000 + b"}}"),
    ("odd JSON", lambda rng, valid: b'{"file_name": "\\ud800", "collection_id": "\\u0000"}'),
    ("deep JSON", lambda rng, valid: b"[" * DEPTH + b"]" * rng.choice((0, DEPTH))),
    ("deep JSON", lambda rng, valid: b'{"metadata":' + b'{"a":' * 30_000 + b"1" + b"}" * 30_001),
    ("many keys", lambda rng, valid: many_keys(24_000)),
    ("many values", lambda rng, valid: b'{"tracks":[' + b"{}," * rng.choice((80_000, 600_000, 2_500_000)) + b"{}]}"),
    ("huge metadata", huge_metadata),
    ("huge batch", huge_batch),
)
"""Names and makers of hostile bodies, which may be variations of a valid payload."""


def _odd_headers(rng: random.Random, session_id: str) -> Parts:
    body = json.dumps({"file_name": "a.mp3"}).encode()
    headers = rng.choice((
        {"X-Request-ID": session_id},
        {"X-Request-ID": session_id.upper(), "traceparent": f"00-{session_id.replace('-', '')}-0000000000000001-01"},
        {"X-Request-ID": "\u00ff" * 300},
        {"Idempotency-Key": rng.choice(("", '"', "\u00e9", "x" * 1000, session_id))},
        {"Content-Type": rng.choice(("", "text/html", "application/json; charset=utf-7", "\u00ff/\u00ff", "a" * 7000))},
        {"Content-Length": rng.choice(("-1", "x", "1e3", "+5", "0x10", "9" * 30, "5, 5"))},
        {"Transfer-Encoding": rng.choice(("chunked", "gzip, chunked", "identity", "\u000bchunked", "xchunked"))},
        {"Content-Encoding": rng.choice(("gzip", "br", "gzip, gzip, gzip"))},
        {"Expect": rng.choice(("100-continue", "200-ok", "\u00ff"))},
        {"Host": rng.choice(("", "a b", "evil.example@localhost", "[::1", "localhost:99999", "\u00ff"))},
        {"Authorization": rng.choice(("", "Bearer", "Bearer \u00ff", "Basic eDp5", "Bearer " + "x" * 7000))},
        {"Date": "yesterday", "Range": "bytes=0-0,-1", "If-None-Match": "*", "Accept": "\u0001", "Cookie": "a=" * 2000},
        {"Forwarded": "for=_x;host=evil", "X-Forwarded-Host": "evil", "X-Forwarded-Prefix": "/../.."},
        {f"X-Odd-{number}": "x" for number in range(rng.choice((50, 100, 500)))},
        {"X-Long": "x" * rng.choice((7000, 9000, 40_000))},
        {"X Bad": "y", "": "z", "X-Null": "a\0b", "X-Folded": "a\r\n b"},
    ))  # fmt: skip
    return "odd headers", "POST", f"/v1/upload/{session_id}/track", headers, body


def _odd_path(rng: random.Random, session_id: str) -> Parts:
    method = rng.choice(("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW", "get", "X" * 100))
    session = rng.choice(
        (session_id, str(uuid4()), session_id.upper(), session_id[:-1], "%00", "%ff", "..%2f..", "x" * 3000)
    )
    track = rng.choice((str(uuid4()), session_id, "%0d%0a", "\u00ff", "1", "x" * 3000))
    route = rng.choice((
        f"/v1/upload_session/{session}", f"/v1/upload_session/{session}/close", f"/v1/upload/{session}/track",
        f"/v1/upload/{session}/tracks", f"/v1/upload/{session}/complete", f"/v1/upload/{session}/track/{track}",
        f"/v1/upload/{session}/track/{track}/complete", f"/v1/upload/{session}/track/{track}/renew",
        f"/v1/upload/{session}/track/{track}/parts", f"/v1/upload/{session}/track/{track}/cover",
        f"/v1/track/{track}", f"/v1/track/{track}/download", f"/v1/collection/{session}/track", "/v1/upload_session",
        "/v1/store_event/x", "/v1/store_event/sns", "/v1/api_key", "/metrics", f"/upload/{session}",
        "//v1//upload_session", "/v1/../v1/upload_session", "/openapi.json", "/docs", "*", "http://evil.example/v1/upload_session",
    ))  # fmt: skip
    query = rng.choice((
        "", "?limit=99999999999999999999", "?offset=-1", "?limit=1&limit=2", "?limit=%ff%00", "?status=" + "x" * 7000,
        "?" + "&".join(f"a{number}={number}" for number in range(800)), "?limit=1e9&offset=0x1",
        "?after=" + "\u00ff" * 50, f"?offset={2**63}", "?" + "a" * 20_000,
    ))  # fmt: skip
    name = "unknown id" if session != session_id and not query else "odd path or query"
    return name, method, route + query, {}, rng.choice((None, b"{}"))
