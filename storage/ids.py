"""The ids that this service makes (UUIDs, RFC 9562), and the short form of those that stand in object keys."""

from __future__ import annotations

import os
import random
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode


def new_uuid4() -> str:
    """A UUIDv4, of 122 random bits: nobody can guess it, so that it may be a credential."""
    bits = bytearray(os.urandom(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    return _format_uuid(bits.hex())


def new_uuid7_and_index() -> tuple[str, str]:
    """A UUIDv7, of the time in milliseconds and 74 random bits, and its index: the same in 22 URL-safe characters.

    As such ids grow, those of a batch go to one page of the database's index and not to a hundred: the largest part of
    what keeping a track would cost.
    """
    bits = bytearray(os.urandom(16))
    bits[:6] = (time.time_ns() // 1_000_000).to_bytes(6)
    bits[6] = bits[6] & 0x0F | 0x70
    bits[8] = bits[8] & 0x3F | 0x80
    return _format_uuid(bits.hex()), urlsafe_b64encode(bits)[:22].decode()


def request_id() -> str:
    """A UUID that is unlikely to come twice. It is no secret, so it is not worth a call for the system's entropy."""
    bits = random.getrandbits(128)
    return _format_uuid(f"{bits & ~(0xF << 76 | 0x3 << 62) | 4 << 76 | 2 << 62:032x}")


def _format_uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_to_index(id_: str) -> str:
    """The index of a UUID."""
    return urlsafe_b64encode(bytes.fromhex(id_.replace("-", "")))[:22].decode()


def index_to_uuid(index: str) -> str | None:
    """The UUID of an index, or None where `index` is not one."""
    try:
        digits = urlsafe_b64decode(index + "==").hex()
    except ValueError:
        return None
    return _format_uuid(digits) if len(digits) == 32 and uuid_to_index(digits) == index else None
