"""Checks of the whole service on one store: uploads through its API, right and wrong ones, and what it says of them.

Nothing depends on the name of a store: what it must do follows from its measured abilities and the choices made from
them. The tests run the same checks on every store of the matrix, and `flask doctor --conformance` on a user's own.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import urllib3

from storage.errors import ServiceError
from storage.formats.checksums import ALGORITHMS, Algorithm
from storage.measuring.contract_client import Answer, Content, Upload
from storage.measuring.flow import Flow, Violation, expect
from storage.measuring.probing import Observation, checksum_of

MAX_COVER_BYTES = 64 * 1024
"""MAX_COVER_BYTES of a service that is checked, so that a cover that is too large is a small one."""

PART_SIZE = 5 * 2**20
"""Bytes of the smallest part that S3 takes, but for the last one."""

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==")
NAMES = ("plain.wav", "ünï çödé 音.wav", "a b  c.wav", "a+b%20c%2F#?&=;.wav", "quote\"and'.wav", "no ending")
"""Names of files that are hard to sign, to store, or to put in a header."""


def wav(size: int, seed: int = 0) -> bytes:
    """Return a WAV of `size` bytes; another seed gives other bytes."""
    format_chunk = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    head = b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt " + format_chunk + b"data" + struct.pack("<I", size - 44)
    return head + bytes([seed, 7, 70, 99]) * ((size - 44) // 4) + b"." * ((size - 44) % 4)


BODY, OTHER = wav(3000), wav(3000, seed=1)
"""Two files of the same size."""


# --- Single PUTs ------------------------------------------------------------------------------------------------------


def check_plain(flow: Flow) -> str:
    """Upload a file of which nothing is declared; its URL changes nothing once the file is `uploaded`."""
    upload = flow.register()
    flow.must_put(upload.content["track_upload"], BODY)
    flow.expect_uploaded(upload, BODY)
    flow.put(upload, OTHER)
    flow.expect_uploaded(upload, BODY)
    return ""


def check_read(flow: Flow) -> str:
    """Upload a file without completing it: a read of the track notices and verifies it."""
    upload = flow.register()
    expect(flow.client.call("GET", upload.path).outcome == "initialized", "not initialized")
    flow.must_put(upload.content["track_upload"], BODY)
    outcome = flow.client.call("GET", upload.path).outcome
    expect(outcome in ("uploaded", "verifying"), f"{outcome} after a read")
    flow.expect_uploaded(upload, BODY)
    return ""


def check_declared(flow: Flow) -> str:
    """Upload files with their size, type and each checksum."""
    for algorithm in ALGORITHMS:
        upload = flow.register(file_size=len(BODY), content_type="audio/wav", **_checksum(algorithm))
        flow.must_put(upload.content["track_upload"], BODY)
        track = flow.expect_uploaded(upload, BODY)
        expect(track["integrity"] == algorithm, f"{algorithm} is declared, and {track['integrity']} is proven")
        _expect_type(flow, upload, "audio/wav")
    return ""


def _checksum(algorithm: Algorithm, body: bytes = BODY) -> dict[str, Any]:
    return {f"checksum_{algorithm}": checksum_of(body, algorithm).value}


def _expect_type(flow: Flow, upload: Upload, content_type: str) -> None:
    if flow.choices.keeps_types:
        stored = flow.expect_bytes(upload, BODY).headers.get("Content-Type")
        expect(stored == content_type, f"the type is {stored} instead of {content_type}")


def check_size(flow: Flow) -> str:
    """Upload a longer and a shorter file than was declared: neither is `uploaded`."""
    refused = []
    for body in (BODY + b"!", BODY[:-1]):
        upload = flow.register(file_size=len(BODY))
        answer = flow.put(upload, body)
        refused.append(flow.expect_refused(upload, answer, enforced=flow.abilities.signed_size is True))
    return _refused_by(refused)


def _refused_by(refused: list[bool]) -> str:
    if len(set(refused)) == 2:
        return "some are rejected by the store, others failed"
    return "rejected by the store" if refused[0] else "accepted by the store, then failed"


def check_type(flow: Flow) -> str:
    """Upload with another type than was declared, or none: rejected, or stored with the declared type."""
    refused = []
    for sent in ("text/html", None):
        for write_once in (False, True):
            upload = flow.register(content_type="audio/wav", write_once=write_once)
            answer = flow.put(upload, BODY, content_type=sent)
            refused.append(_expect_no_other_type(flow, upload, answer))
    return _refused_by(refused) if all(refused) else "accepted by the store, and set by the service"


def _expect_no_other_type(flow: Flow, upload: Upload, answer: Answer) -> bool:
    if answer.accepted:
        expect(flow.abilities.signed_type is not True, "the store accepts another type than when it was measured")
        if flow.client.complete(upload).outcome == "uploaded":
            flow.expect_uploaded(upload, BODY)
            _expect_type(flow, upload, "audio/wav")
        return False
    return flow.expect_refused(upload, answer, enforced=flow.abilities.signed_type is True)


def check_checksums(flow: Flow) -> str:
    """Upload other bytes than each checksum says, with its signed header, with their own, and without one."""
    refused = []
    for algorithm in ALGORITHMS:
        header = f"x_amz_checksum_{algorithm}"
        signed = flow.register(**_checksum(algorithm)).content["track_upload"]["headers"].get(header.replace("_", "-"))
        for sent in (signed, checksum_of(OTHER, algorithm).value, None):
            upload = flow.register(**_checksum(algorithm))
            answer = flow.put(upload, OTHER, **{header: sent})
            enforced = algorithm in flow.choices.signed_checksums
            refused.append(flow.expect_refused(upload, answer, enforced=enforced))
    return _refused_by(refused)


def check_content(flow: Flow) -> str:
    """Upload what is no audio, and nothing at all: both fail, and can be uploaded again."""
    for body in (b"<html>" + b"x" * 300, b""):
        upload = flow.register()
        flow.put(upload, body)
        outcome = flow.client.complete(upload).outcome
        expect(outcome == "failed", f"{outcome} instead of failed")
        again = flow.note(upload.session_id, flow.request("POST", f"{upload.path}/renew"))
        flow.must_put(again.content["track_upload"], BODY)
        flow.expect_uploaded(again, BODY)
    return ""


def check_write_once(flow: Flow) -> str:
    """PUT twice by a write-once URL, with its condition and without: an `uploaded` file never changes."""
    for condition in ("*", None):
        upload = flow.register(write_once=True)
        conditional = "If-None-Match" in upload.content["track_upload"]["headers"]
        flow.must_put(upload.content["track_upload"], BODY)
        second = flow.put(upload, OTHER, **({"if_none_match": condition} if conditional else {}))
        expect(not (flow.choices.write_once and second.accepted), "the store accepts a second PUT")
        flow.expect_uploaded(upload, OTHER if second.accepted else BODY)
        flow.put(upload, wav(3000, seed=2))
        flow.expect_uploaded(upload, OTHER if second.accepted else BODY)
    return "the first PUT stands" if flow.choices.write_once else "the last PUT before the verification stands"


# --- Multipart uploads ------------------------------------------------------------------------------------------------

NO_PARTS = "files are sent by one PUT each"
FIRST, LAST = slice(0, PART_SIZE), slice(PART_SIZE, None)
"""The bytes of both parts of a long file."""


@lru_cache(maxsize=1)
def long_wav() -> bytes:
    """Return a file of two parts."""
    return wav(PART_SIZE + 1000)


def _register_parts(flow: Flow, **declared: Any) -> Upload:
    size = len(long_wav())
    return flow.register("long.wav", file_size=size, part_size=PART_SIZE, multipart=True, **declared)


def check_parts(flow: Flow) -> str:
    """Upload in parts, with one missing at first; neither their URLs nor the single PUT change the file afterwards."""
    if not flow.choices.multipart:
        return NO_PARTS
    upload, body = _register_parts(flow), long_wav()
    flow.must_put(upload.parts[0], body[FIRST])
    listed = flow.request("GET", f"{upload.path}/parts")["parts"]
    expect([(part["part_number"], part["size"]) for part in listed] == [(1, PART_SIZE)], "the parts are not listed")
    outcome = flow.client.complete(upload).outcome
    expect(outcome == "not_uploaded", f"{outcome} although a part is missing")
    again = flow.note(upload.session_id, flow.request("POST", f"{upload.path}/renew"))
    flow.must_put(again.parts[1], body[LAST])
    flow.expect_uploaded(again, body)
    flow.client.put(upload.parts[1], body[LAST][::-1])
    flow.put(again, body[::-1])
    flow.expect_uploaded(again, body)
    return ""


def check_wrong_parts(flow: Flow) -> str:
    """Upload a part of another size, and parts of other bytes than a checksum says: neither is `uploaded`."""
    if not flow.choices.multipart:
        return NO_PARTS
    upload, body = _register_parts(flow), long_wav()
    flow.must_put(upload.parts[0], body[FIRST])
    answer = flow.client.put(upload.parts[1], body[LAST] + b"!")
    expect(not (flow.abilities.signed_size and answer.accepted), "the store accepts a part of another size")
    outcome = flow.client.complete(upload).outcome
    expect(outcome == "not_uploaded", f"{outcome} with a part of another size")
    flow.must_put(upload.parts[1], body[LAST])
    flow.expect_uploaded(upload, body)
    outcome = flow.client.complete(_upload_parts(flow, body[FIRST], body[LAST][::-1])).outcome
    expect(outcome == "failed", f"{outcome} with other bytes than the checksum says")
    integrity = flow.expect_uploaded(_upload_parts(flow, body[FIRST], body[LAST]), body)["integrity"]
    expect(integrity == "crc64nvme", f"crc64nvme is declared, and {integrity} is proven")
    return f"a part of another size is {'counted as missing' if answer.accepted else 'rejected by the store'}"


def _upload_parts(flow: Flow, *bodies: bytes) -> Upload:
    """Upload parts of a file whose CRC-64/NVME is declared."""
    upload = _register_parts(flow, **_checksum("crc64nvme", long_wav()))
    for part, body in zip(upload.parts, bodies, strict=True):
        flow.must_put(part, body)
    return upload


def check_cancelled_parts(flow: Flow) -> str:
    """Cancel an upload in parts: the store has none of them any more, and takes no other."""
    if not flow.choices.multipart:
        return NO_PARTS
    upload, body = _register_parts(flow), long_wav()[LAST]
    flow.must_put(upload.parts[1], body)
    flow.request("DELETE", upload.path)
    expect(not flow.client.put(upload.parts[1], body).accepted, "the store takes a part of a cancelled upload")
    expect(not flow.bucket.list_parts(*flow.upload_of(upload)), "the parts are still stored")
    return ""


# --- Batches, covers, names, removals ---------------------------------------------------------------------------------


def check_batch(flow: Flow) -> str:
    """Register a batch, upload and complete all of it, and close the session."""
    session_id, bodies = flow.open_session(), [wav(1000 + number, number) for number in range(10)]
    payload = {"tracks": [{"file_name": f"b {len(body)}.wav", "file_size": len(body)} for body in bodies]}
    created = flow.request("POST", f"/v1/upload/{session_id}/tracks", payload)["tracks"]
    uploads = [flow.note(session_id, content) for content in created]
    for upload, body in zip(uploads, bodies, strict=True):
        flow.must_put(upload.content["track_upload"], body)
    flow.request("POST", f"/v1/upload/{session_id}/complete", {})
    for upload, body in zip(uploads, bodies, strict=True):
        flow.expect_uploaded(upload, body)
    manifest = flow.request("POST", f"/v1/upload_session/{session_id}/close")["manifest"]["tracks"]
    expect([track["status"] for track in manifest] == ["uploaded"] * len(bodies), "the manifest says otherwise")
    return ""


def _register_cover(flow: Flow, cover: bytes = PNG) -> Upload:
    upload = flow.register(cover_fields=True, cover_size=len(cover), cover_content_type="image/png")
    flow.must_put(upload.content["track_upload"], BODY)
    return upload


def _expect_cover(flow: Flow, upload: Upload, body: bytes | None) -> None:
    """Complete a track whose cover must have these bytes or, with None, have failed or be missing."""
    cover = flow.expect_uploaded(upload, BODY)["cover"]
    if body is None:
        expect(cover is None or cover["status"] == "failed", f"the cover is {cover and cover['status']}")
        return
    expect(cover is not None and cover["status"] == "uploaded", f"the cover is {cover and cover['failure']}")
    flow.verified[cover["path"]] = body
    stored = flow.bucket.stat_and_read(cover["path"], len(body) + 1)
    expect(stored is not None and stored[1] == body, "the cover has other bytes than the uploaded ones")


def check_cover(flow: Flow) -> str:
    """Send a cover in the way that the answer says; its URL changes nothing afterwards, and it can be replaced."""
    upload = _register_cover(flow)
    target = upload.content["track_cover_upload"]
    answer = flow.client.send_cover(target, PNG)
    expect(answer.accepted, f"the cover is answered with status {answer.status}")
    _expect_cover(flow, upload, PNG)
    flow.client.send_cover(target, PNG[:-1] + b"!")
    _expect_cover(flow, upload, PNG)
    later = flow.request("POST", f"/v1/track/{upload.track_id}/cover")["track_cover_upload"]
    flow.keys.add(later["fields"].get("key") or flow.key_of(later["upload_url"]))
    expect(flow.client.send_cover(later, PNG + b"\0").accepted, "a later cover is not accepted")
    _expect_cover(flow, upload, PNG + b"\0")
    return f"by {_way(target)}"


def _way(target: Content) -> str:
    return "a PUT" if target["method"] == "PUT" else "a form" if target["fields"] else "the service"


def check_wrong_covers(flow: Flow) -> str:
    """Send covers that are too large, of another type, or no picture: none is `uploaded`."""
    large, text = PNG.ljust(MAX_COVER_BYTES + 1, b"\0"), b"this is no picture" * 5
    for body, content_type in ((large, "image/png"), (PNG, "text/html")):
        upload = _register_cover(flow)
        answer = flow.client.send_cover(upload.content["track_cover_upload"], body, content_type)
        expect(400 <= answer.status < 500, f"{len(body)} bytes of {content_type} are accepted ({answer.status})")
        _expect_cover(flow, upload, None)
    upload = _register_cover(flow, text)
    flow.client.send_cover(upload.content["track_cover_upload"], text)
    _expect_cover(flow, upload, None)
    return ""


def check_names(flow: Flow) -> str:
    """Upload files with odd names: each is downloaded under its own."""
    session_id = flow.open_session()
    for name in NAMES:
        upload = flow.register(name, session_id, content_type="audio/wav")
        flow.must_put(upload.content["track_upload"], BODY)
        flow.expect_uploaded(upload, BODY)
        disposition = flow.expect_bytes(upload, BODY).headers.get("Content-Disposition", "")
        stored = unquote(disposition.partition("filename*=UTF-8''")[2])
        expect(disposition.startswith("attachment") and stored == name, f"{name!r} is downloaded as {disposition}")
    return ""


def check_removal(flow: Flow) -> str:
    """Cancel a track, and delete one that is `uploaded`: nothing of either is left."""
    cancelled, deleted = flow.register(), flow.register()
    for upload in (cancelled, deleted):
        flow.must_put(upload.content["track_upload"], BODY)
    path = flow.expect_uploaded(deleted, BODY)["path"]
    expect(flow.client.call("DELETE", cancelled.path).status == 200, "the track cannot be cancelled")
    flow.request("DELETE", f"/v1/track/{deleted.track_id}")
    del flow.verified[path]
    for key in (flow.key_of(cancelled.content["track_upload"]["upload_url"]), path):
        expect(flow.bucket.head(key) is None, f"{key} is still stored")
    return ""


Check = Callable[[Flow], str]
CHECKS: dict[str, Check] = {
    "plain upload": check_plain,
    "noticed by a read": check_read,
    "declared size, type, checksum": check_declared,
    "another size": check_size,
    "another type": check_type,
    "other bytes than a checksum": check_checksums,
    "no audio": check_content,
    "write-once upload": check_write_once,
    "upload in parts": check_parts,
    "wrong parts": check_wrong_parts,
    "cancelled parts": check_cancelled_parts,
    "batch": check_batch,
    "cover": check_cover,
    "wrong covers": check_wrong_covers,
    "odd names": check_names,
    "removal": check_removal,
}
"""The checks by name. Each raises Violation, and returns a detail."""


def run_checks(flow: Flow) -> Iterator[Observation]:
    """Yield the outcome of each check once it has run. One that fails does not keep the others."""
    for name, check in CHECKS.items():
        try:
            yield Observation(name, True, check(flow))
        except (Violation, ServiceError, urllib3.exceptions.HTTPError) as e:
            yield Observation(name, False, str(e) or type(e).__name__)
