"""Strict JSON (RFC 8259 with the restrictions of I-JSON, RFC 7493): rejects what only Python's reader accepts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors and shells write it before UTF-8. A reader may ignore it: https://www.rfc-editor.org/rfc/rfc8259#section-8.1"""

MAX_DEPTH = 200
"""More than any request needs, and far less than Python's stack allows."""

SMALL_BYTES, MAX_VALUES = 256 * 1024, 100_000
"""A body above that size may have so many values: one may take two bytes of the body, and a hundred of memory."""


class JSONError(ValueError):
    """The text is not JSON, or not JSON that every reader understands alike."""


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object in `body`. Raises JSONError, also for NaN, duplicate keys, unpaired surrogates and NUL."""
    if len(body) > SMALL_BYTES and _count_separators(body) > MAX_VALUES:
        raise JSONError(f"it has more than {MAX_VALUES} values")
    try:
        value = _decoder.decode(body.removeprefix(BYTE_ORDER_MARK).decode())
    except JSONError:
        raise
    except UnicodeDecodeError as e:
        raise JSONError(f"invalid UTF-8 at byte {e.start}") from e
    except json.JSONDecodeError as e:
        raise JSONError(f"{e.msg} at line {e.lineno}, column {e.colno}") from e
    except RecursionError as e:
        raise JSONError("nested too deeply") from e
    except ValueError as e:
        # Python refuses to convert integers of thousands of digits.
        raise JSONError("a number has too many digits") from e
    if not isinstance(value, dict):
        raise JSONError("must be a JSON object")
    if b"\\u" in body:
        # Unpaired surrogates and NUL can only come from escapes: unescaped, the decoder rejects them.
        _check_text(value, "")
    return value


def _count_separators(body: bytes) -> int:
    """Return at least the number of values, less one: texts may have some of these characters, too."""
    return sum(map(body.count, (b",", b"[", b"{")))


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        (duplicate, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise JSONError(f"duplicate key {json.dumps(duplicate[:64])}")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise JSONError(f"{name} is not a JSON number")


def _parse_finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JSONError("a number is too large")
    return number


def _check_text(value: Any, path: str, depth: int = MAX_DEPTH) -> None:
    """Raise JSONError for a string that no database or UTF-8 text can hold; `path` names it."""
    if not depth:
        raise JSONError("nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise JSONError(f"{path or 'a key'} contains a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise JSONError(f"{path or 'a key'} contains an unpaired surrogate") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, "")
            _check_text(item, f"{path}.{key[:64]}".lstrip("."), depth - 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_text(item, f"{path}[{number}]", depth - 1)


# json.loads would make a decoder for each call.
_decoder = json.JSONDecoder(
    object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant, parse_float=_parse_finite
)
