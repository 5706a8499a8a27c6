"""A webhook receiver that accepts every event and records the ids of uploaded tracks."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRAIN_SECONDS = 300.0
"""The time for the last events: longer than the lease of a killed worker plus some retries."""


class Receiver:
    """An HTTP server on a free port, until it is closed."""

    def __init__(self) -> None:
        self.events, self.uploaded = 0, set[str]()
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                # A worker that was killed while sending delivers the event again.
                if len(body) < length:
                    return
                receiver.record(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        self.native_id = thread.native_id or 0

    def record(self, event: dict[str, Any]) -> None:
        """Record an event."""
        with self.lock:
            self.events += 1
            if event["type"] == "track.uploaded":
                self.uploaded.add(event["data"]["track_id"])

    def missing(self, track_ids: set[str], seconds: float = DRAIN_SECONDS) -> set[str]:
        """Return the tracks without a `track.uploaded` event, after waiting for at most `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            with self.lock:
                missing = track_ids - self.uploaded
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.5)

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()
