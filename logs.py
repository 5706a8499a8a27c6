"""What a log holds, and in which form: a line for each request, and never a whole session id, a key or a signature."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import g, has_request_context

_uuid = r"([0-9a-fA-F]{8})-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_session = re.compile(rf"(/(?:upload|upload_session|u)/){_uuid}")
_secrets = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|Bearer |loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_)[^\s&\"']+",
    re.I,
)

OURS = logging.getLogger("loadbay")
REQUESTS = logging.getLogger("loadbay.requests")


def shortened(text: str) -> str:
    """`text` with session ids in paths cut to their first eight characters, and keys and signatures cut out."""
    return _secrets.sub(r"\1...", _session.sub(r"\1\2...", text))


class Shorten(logging.Filter):
    """Shortens what passes through a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, with its text shortened."""
        record.msg, record.args = shortened(record.getMessage()), ()
        return True


SHORTEN = Shorten()


class TextLines(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, with its traceback below it where it has one."""
        return shortened(super().format(record))


class JSONLines(logging.Formatter):
    """Lines for programs: one JSON object for each record, whatever its text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        if record.name == REQUESTS.name:
            line |= record.request  # type: ignore[attr-defined]
        else:
            line["message"] = shortened(record.getMessage())
            if has_request_context() and (id_ := g.get("api_request_id")):
                line["api_request_id"] = id_
            if record.exc_info:
                line["exception"] = shortened(self.formatException(record.exc_info))
        return orjson.dumps(line, option=orjson.OPT_UTC_Z, default=str).decode()


FORMATS = {"text": TextLines, "json": JSONLines}


def log_request(told: dict[str, Any]) -> None:
    """Log one request. `told` has what is known of it, `method`, `route`, `status` and `duration_ms` at the least."""
    if REQUESTS.isEnabledFor(logging.INFO):
        # Made here, as the usual way looks through the stack for the place of this line, which is always the same.
        text = " ".join(f"{name}={value}" for name, value in told.items())
        record = logging.LogRecord(REQUESTS.name, logging.INFO, __file__, 0, text, None, None)
        record.request = told
        REQUESTS.handle(record)


def set_up_logs(config: Mapping[str, object]) -> None:
    """Have our own records written to stderr as LOG_FORMAT says, unless the host has seen to them.

    The development server logs each request with its path, which holds the session's id: that is shortened.
    """
    logging.getLogger("werkzeug").addFilter(SHORTEN)
    if not OURS.hasHandlers():
        handler = logging.StreamHandler()
        # What it may say is checked with the other settings.
        handler.setFormatter(FORMATS.get(str(config.get("LOG_FORMAT")), TextLines)())
        OURS.addHandler(handler)
        OURS.setLevel(logging.INFO)
