"""JSON as RFC 8259 and I-JSON (RFC 7493) have it: what Python's reader lets through beyond that is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_DEPTH = 200
"""Far more than any request needs, and far less than what Python's stack holds."""


class JSONError(ValueError):
    """The text is not JSON, or not JSON that every reader reads alike."""


def read_json(body: bytes) -> dict[str, Any]:
    """The object in `body`. Raises JSONError, also for NaN, duplicate keys, unpaired surrogates and NUL."""
    try:
        value = _decoder.decode(body.decode())
    except JSONError:
        raise
    except UnicodeDecodeError as e:
        raise JSONError(f"it is not UTF-8 at byte {e.start}") from e
    except json.JSONDecodeError as e:
        raise JSONError(f"{e.msg} at line {e.lineno}, column {e.colno}") from e
    except RecursionError as e:
        raise JSONError("it is nested too deeply") from e
    except ValueError as e:
        # Python refuses to read integers of thousands of digits.
        raise JSONError("a number in it has too many digits") from e
    if not isinstance(value, dict):
        raise JSONError("it must be a JSON object")
    if b"\\u" in body:
        # Unpaired surrogates and NUL can only have come as escapes: raw ones are not valid here.
        _check_text(value, "")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JSONError(f"the key {json.dumps(twice[:64])} stands in it twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise JSONError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JSONError("a number in it is too large")
    return number


def _check_text(value: Any, where: str, depth: int = MAX_DEPTH) -> None:
    if not depth:
        raise JSONError("it is nested too deeply")
    if isinstance(value, str):
        if "\0" in value:
            raise JSONError(f"{where or 'a key'} holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise JSONError(f"{where or 'a key'} holds an unpaired surrogate") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, "")
            _check_text(item, f"{where}.{key[:64]}".lstrip("."), depth - 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_text(item, f"{where}[{number}]", depth - 1)


# json.loads makes one of these each time.
_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
