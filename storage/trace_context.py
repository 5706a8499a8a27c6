"""Traces that begin elsewhere and go on here: W3C Trace Context, https://www.w3.org/TR/trace-context/."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import NamedTuple

_parent = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_state = re.compile(r"[ -~\t]{1,512}")
MAX_PARENT = 256
"""Characters of a `traceparent` of a version to come; that of today has 55."""


class Trace(NamedTuple):
    """A trace that a request is part of: its id, the caller's span, our own, and what comes along unread."""

    trace_id: str
    parent_id: str
    span_id: str
    flags: str
    state: str | None

    def headers(self) -> dict[str, str]:
        """What whoever is called because of this request is to be sent."""
        # We say what we know, which is version 00, and of its flags the one that it had from the start.
        sampled = int(self.flags, 16) & 1
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{sampled:02x}"}
        return headers | ({"tracestate": self.state} if self.state else {})


current_trace: ContextVar[Trace | None] = ContextVar("loadbay_trace", default=None)
"""The trace of the request that is being answered, if it came with one."""


def parse(parent: str | None, state: str | None) -> Trace | None:
    """The trace that the headers `traceparent` and `tracestate` tell of; None where there is none that is valid."""
    if parent is None or len(parent) > MAX_PARENT:
        return None
    found = _parent.fullmatch(parent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    kept = state if state and _state.fullmatch(state) else None
    return Trace(found[2], found[3], os.urandom(8).hex(), found[4], kept)
