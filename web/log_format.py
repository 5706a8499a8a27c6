"""Log format: one line for each record, as text or JSON, with session ids, keys and signatures redacted."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import has_request_context, request

# A path that is not decoded yet may have its digits and hyphens percent-encoded.
_hex, _hyphen = "(?:[0-9a-fA-F]|%(?:3[0-9]|[46][1-6]))", "(?:-|%2[dD])"
_uuid = rf"({_hex}{{8}}){_hyphen}(?:{_hex}{{4}}{_hyphen}){{3}}{_hex}{{12}}"
_session = re.compile(rf"(/+(?:upload|upload_session|u)/+){_uuid}")
_secrets = re.compile(
    r"(/v1/store_event/+(?!sns\b)|X-Amz-(?:Signature|Credential|Security-Token)=|Bearer |"
    r"loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_)[^\s&\"']+",
    re.I,
)
# gunicorn logs what it cannot parse, which may be a whole header.
_gunicorn_parse_error = re.compile(r"(Invalid request from [^'\"]*)['\"].*", re.S)

REQUEST_ID = "loadbay.request_id"
"""The key of the request's id in its WSGI environment."""

ROOT_LOGGER = logging.getLogger()
LOGGER = logging.getLogger("loadbay")
REQUEST_LOGGER = logging.getLogger("loadbay.requests")


def redact(text: str) -> str:
    """Return `text` with session ids in paths cut to eight characters, and keys and signatures removed."""
    return _gunicorn_parse_error.sub(r"\1...", _secrets.sub(r"\1...", _session.sub(r"\1\2...", text)))


class RedactingFilter(logging.Filter):
    """Redacts each record that passes through a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record's message and traceback, and let it pass."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = redact(_plain_formatter.formatException(record.exc_info))
        return True


_plain_formatter = logging.Formatter()
REDACTING_FILTER = RedactingFilter()


class TextFormatter(logging.Formatter):
    """Formats records as text for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, followed by its traceback if it has one."""
        return redact(super().format(record))


class JSONFormatter(logging.Formatter):
    """Formats each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower(), "logger": record.name}
        if (request_fields := getattr(record, "request", None)) is not None:
            line |= request_fields
        else:
            line["message"] = redact(record.getMessage())
            if has_request_context() and (request_id := request.environ.get(REQUEST_ID)):
                line["api_request_id"] = request_id
            if record.exc_info:
                line["exception"] = redact(self.formatException(record.exc_info))
        return orjson.dumps(line, option=orjson.OPT_UTC_Z, default=str).decode()


FORMATTERS = {"text": TextFormatter, "json": JSONFormatter}


class StderrHandler(logging.StreamHandler[Any]):
    """Writes records to stderr, each line in one write, so that the lines of several workers do not mix."""

    def __init__(self, style: str):
        super().__init__()
        self.setFormatter(FORMATTERS.get(style, TextFormatter)())

    def writes_json_to_stderr(self) -> bool:
        """Return True if the handler writes every record of level INFO to the process's stderr as JSON."""
        stream = self.stream
        unchanged = stream is sys.__stderr__ and stream is not None and type(self.formatter) is JSONFormatter
        return unchanged and self.level <= logging.INFO and not self.filters


COMMON_FIELDS = ("time", "level", "logger")
"""The fields with which every line of JSON begins."""


def configure_logging(config: Mapping[str, object]) -> None:
    """Write the service's records to stderr in LOG_FORMAT, unless the host application has configured logging."""
    if not LOGGER.hasHandlers():
        # Settings.load validates the value together with all other settings.
        LOGGER.addHandler(StderrHandler(str(config.get("LOG_FORMAT"))))
        LOGGER.setLevel(logging.INFO)
