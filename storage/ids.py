"""The ids that this service makes: UUIDv4 (RFC 9562, section 5.4), and their short form."""

from __future__ import annotations

import os
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode


def new_id() -> str:
    """A random UUID that nobody can guess."""
    return _hyphens(_random_bits().hex())


def new_id_and_index() -> tuple[str, str]:
    """The same, and its index: the same bits in 22 URL-safe characters."""
    bits = _random_bits()
    return _hyphens(bits.hex()), urlsafe_b64encode(bits)[:22].decode()


def _random_bits() -> bytearray:
    bits = bytearray(os.urandom(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    return bits


def request_id() -> str:
    """A UUID that is unlikely to come twice. It is no secret, so it is not worth a call for the system's entropy."""
    bits = random.getrandbits(128)
    return _hyphens(f"{bits & ~(0xF << 76 | 0x3 << 62) | 4 << 76 | 2 << 62:032x}")


def _hyphens(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def index_of(id_: str) -> str:
    """The index of a UUID."""
    return urlsafe_b64encode(bytes.fromhex(id_.replace("-", "")))[:22].decode()


def id_of(index: str) -> str | None:
    """The UUID of an index, or None where `index` is not one."""
    try:
        digits = urlsafe_b64decode(index + "==").hex()
    except ValueError:
        return None
    return _hyphens(digits) if len(digits) == 32 and index_of(digits) == index else None
