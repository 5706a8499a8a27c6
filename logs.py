"""What a log may hold: never a whole session id, a key or a signature."""

from __future__ import annotations

import logging
import re

_uuid = r"([0-9a-fA-F]{8})-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_session = re.compile(rf"(/(?:upload|upload_session|u)/){_uuid}")
_secrets = re.compile(
    r"(X-Amz-(?:Signature|Credential|Security-Token)=|Bearer |loadbay_(?:full|uploader)_[A-Za-z0-9]{12}_)[^\s&\"']+",
    re.I,
)


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


def shorten_request_log() -> None:
    """The development server logs each request with its path, which holds the session's id: shorten that."""
    logging.getLogger("werkzeug").addFilter(SHORTEN)
