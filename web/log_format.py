"""What a log holds, and in which form: a line for each request, and never a whole session id, a key or a signature."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import has_request_context, request

# A path that has not been read yet may have its digits and hyphens in another form.
_hex, _hyphen = "(?:[0-9a-fA-F]|%(?:3[0-9]|[46][1-6]))", "(?:-|%2[dD])"
_uuid = rf"({_hex}{{8}}){_hyphen}(?:{_hex}{{4}}{_hyphen}){{3}}{_hex}{{12}}"
_session = re.compile(rf"(/+(?:upload|upload_session|u)/+){_uuid}")
_secrets = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|Bearer |loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_)[^\s&\"']+",
    re.I,
)
# gunicorn repeats what it could not read, a whole header maybe.
_gunicorn_parse_error = re.compile(r"(Invalid request from [^'\"]*)['\"].*", re.S)

REQUEST_ID = "loadbay.request_id"
"""Where the environment of a request keeps its id, once it has one."""

ROOT_LOGGER = logging.getLogger()
LOGGER = logging.getLogger("loadbay")
REQUEST_LOGGER = logging.getLogger("loadbay.requests")


def redact(text: str) -> str:
    """`text` with session ids in paths cut to their first eight characters, and keys and signatures cut out."""
    return _gunicorn_parse_error.sub(r"\1...", _secrets.sub(r"\1...", _session.sub(r"\1\2...", text)))


class RedactingFilter(logging.Filter):
    """Shortens what passes through a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, with its text and its traceback shortened."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = redact(PLAIN.formatException(record.exc_info))
        return True


PLAIN = logging.Formatter()
SHORTEN = RedactingFilter()


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, with its traceback below it where it has one."""
        return redact(super().format(record))


class JSONFormatter(logging.Formatter):
    """Lines for programs: one JSON object for each record, whatever its text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        if (told := getattr(record, "request", None)) is not None:
            line |= told
        else:
            line["message"] = redact(record.getMessage())
            if has_request_context() and (id_ := request.environ.get(REQUEST_ID)):
                line["api_request_id"] = id_
            if record.exc_info:
                line["exception"] = redact(self.formatException(record.exc_info))
        return orjson.dumps(line, option=orjson.OPT_UTC_Z, default=str).decode()


FORMATS = {"text": TextFormatter, "json": JSONFormatter}


class StderrHandler(logging.StreamHandler[Any]):
    """Our own records on stderr, each line in one write, so that those of several workers do not mix."""

    def __init__(self, format_: str):
        super().__init__()
        self.setFormatter(FORMATS.get(format_, TextFormatter)())

    def can_bypass_handlers(self) -> bool:
        """Whether what it is handed goes to stderr as it is, as lines of JSON."""
        stream = self.stream
        straight = stream is sys.__stderr__ and stream is not None and type(self.formatter) is JSONFormatter
        return straight and self.level <= logging.INFO and not self.filters


STDERR = 2
COMMON_FIELDS = ("time", "level", "logger")
"""What every line of JSON begins with."""
ORJSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def can_bypass_handlers() -> bool:
    """Whether nobody has changed what set_up_logs made of the way that a request's record takes."""
    if (
        ROOT_LOGGER.handlers
        or REQUEST_LOGGER.handlers
        or REQUEST_LOGGER.filters
        or not REQUEST_LOGGER.propagate
        or len(LOGGER.handlers) != 1
    ):
        return False
    (handler,) = LOGGER.handlers
    return isinstance(handler, StderrHandler) and handler.can_bypass_handlers()


def log_request(told: dict[str, Any]) -> None:
    """Log one request. `told` has what is known of it, and before it what BEGINNING names."""
    if not REQUEST_LOGGER.isEnabledFor(logging.INFO):
        return
    # A record and its way through the handlers, past Python's layers of text and buffers, are spared where they can be.
    if can_bypass_handlers():
        try:  # noqa: SIM105 (suppress takes longer than the write)
            os.write(STDERR, orjson.dumps(told, option=ORJSON_OPTIONS))
        except OSError:
            # Where nobody reads the log any more, that is no reason to fail the request.
            pass
    else:
        text = " ".join(f"{name}={value}" for name, value in told.items() if name not in COMMON_FIELDS)
        REQUEST_LOGGER.info(text, extra={"request": told})


def configure_logging(config: Mapping[str, object]) -> None:
    """Have our own records written to stderr as LOG_FORMAT says, unless the host has seen to them.

    The development server logs each request with its path, which holds the session's id: that is shortened.
    """
    logging.getLogger("werkzeug").addFilter(SHORTEN)
    if not LOGGER.hasHandlers():
        # What the setting may say is checked with the others.
        LOGGER.addHandler(StderrHandler(str(config.get("LOG_FORMAT"))))
        LOGGER.setLevel(logging.INFO)
