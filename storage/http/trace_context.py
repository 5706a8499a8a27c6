"""W3C Trace Context: the trace that a request is part of, passed on to the store. https://www.w3.org/TR/trace-context/"""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import NamedTuple

from storage.ids import contains_session_id

_traceparent = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?"
)
_tracestate = re.compile(r"[ -~\t]{1,512}")
MAX_TRACEPARENT = 256
"""Characters of a `traceparent`. Version 00 has 55; later versions may append fields."""


class Trace(NamedTuple):
    """The trace of a request: its id, the caller's span, our own span, the flags, and `tracestate` unread."""

    trace_id: str
    parent_id: str
    span_id: str
    flags: str
    state: str | None

    def headers(self) -> dict[str, str]:
        """Return the headers for requests that are made on behalf of this one."""
        # We write version 00, and of the flags only `sampled`, the one that it defines.
        sampled = int(self.flags, 16) & 1
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{sampled:02x}"}
        return headers | ({"tracestate": self.state} if self.state else {})


current_trace: ContextVar[Trace | None] = ContextVar("loadbay_trace", default=None)
"""The trace of the request that is being handled, or None."""


def parse(traceparent: str | None, tracestate: str | None) -> Trace | None:
    """Return the trace of a request with these headers, or None if there is no valid one."""
    if traceparent is None or len(traceparent) > MAX_TRACEPARENT:
        return None
    match = _traceparent.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    # A session's id is a credential, and the ids of traces are logged.
    if contains_session_id(match[2]):
        return None
    state = tracestate if tracestate and _tracestate.fullmatch(tracestate) else None
    return Trace(match[2], match[3], os.urandom(8).hex(), match[4], state)
