"""Ranged reads of a file in the store: a few bytes here and there, within limits on requests, bytes and steps."""

from __future__ import annotations

from collections.abc import Callable

Fetch = Callable[[int, int], bytes]
"""Returns `length` bytes from `offset`, as one request. Called only for ranges within the file."""


class BudgetExceeded(Exception):
    """A read would exceed the limit on requests, bytes or steps."""


class RangedReader:
    """Reads a file of `size` bytes whose first bytes, `head`, are known; other ranges are fetched and kept.

    `requests` and `bytes_read` count what was fetched, at most `max_requests` and `max_bytes`. `max_reads` bounds the
    steps of a parser that reads in each of them.
    """

    def __init__(
        self,
        fetch: Fetch,
        head: bytes,
        size: int,
        *,
        max_requests: int = 4,
        max_bytes: int = 512 * 1024,
        min_fetch: int = 8192,
        growth: int = 1,
        max_reads: int = 100_000,
    ):
        """Fetch at least `min_fetch` bytes, and `growth` times as many with each request, as file and limits allow."""
        self._fetch, self.head, self.size = fetch, head, size
        self._blocks = [(0, head)]
        self._max_requests, self._max_bytes, self._reads_left = max_requests, max_bytes, max_reads
        self._min_fetch, self._growth = min_fetch, growth
        self.requests = self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`: fewer, or none, only where the file ends.

        Raises BudgetExceeded, and what `fetch` raises.
        """
        if self._reads_left <= 0:
            raise BudgetExceeded
        self._reads_left -= 1
        end = min(offset + length, self.size)
        if not 0 <= offset < end:
            return b""
        for start, block in self._blocks:
            if start <= offset and end <= start + len(block):
                return block[offset - start : end - start]
        return self._load(offset, end)[: end - offset]

    def _load(self, offset: int, end: int) -> bytes:
        left = self._max_bytes - self.bytes_read
        if self.requests >= self._max_requests or end - offset > left:
            raise BudgetExceeded
        length = min(max(end - offset, self._min_fetch), self.size - offset, left)
        self._min_fetch *= self._growth
        self.requests += 1
        block = self._fetch(offset, length)
        self.bytes_read += len(block)
        if len(block) != length:
            raise ValueError("the range is shorter than requested")
        self._blocks.append((offset, block))
        return block
