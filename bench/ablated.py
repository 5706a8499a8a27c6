"""The service without one of its tricks, in a process of its own.

`python -m bench.ablated NAME SETTINGS` reads commands from standard input and prints a line of JSON for each:
`shape ROUTE` the keys and types of a response, `cost ROUTE COUNT` the CPU microseconds of one of so many requests.
`bench.ablated:wsgi_app()` is the application for gunicorn, without the trick that BENCH_WITHOUT names.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from storage.db.connection import open_database
from storage.db.migrate import migrate
from storage.db.models import Track

from .server import COLLECTION, SESSION, SETTINGS, TRACK
from .tricks import leave_out

WARM_UP_REQUESTS = 60


def wsgi_app() -> Any:
    """Return the application for gunicorn, without the trick that BENCH_WITHOUT names."""
    leave_out(os.environ.get("BENCH_WITHOUT", ""))
    from app import create_app

    return create_app()


class Request(NamedTuple):
    """A request of one route."""

    method: str
    path: str
    body: bytes = b""
    query: str = ""

    def environ(self) -> dict[str, Any]:
        """Return the WSGI environ that gunicorn's sync worker makes (PEP 3333), without `wsgi.input`."""
        environ = {
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multithread": False,
            "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": "gunicorn", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SCRIPT_NAME": "",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000",
            "QUERY_STRING": self.query, "REQUEST_METHOD": self.method, "RAW_URI": self.path, "PATH_INFO": self.path,
            "HTTP_HOST": "127.0.0.1:8000",
        }  # fmt: skip
        length = {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(self.body))}
        return {**environ, **length} if self.body else environ


class Client:
    """A client that calls a WSGI application directly."""

    def __init__(self, app: Callable[..., Any]):
        self.app, self.status = app, ""

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        """Record the status (PEP 3333)."""
        self.status = status

    def send(self, request: Request) -> dict[str, Any]:
        """Return the JSON of a response. Exits if its status is not 200."""
        return dict(json.loads(self.exchange(request.environ(), request.body)))

    def exchange(self, environ: dict[str, Any], body: bytes) -> bytes:
        """Return the body of a response. Exits if its status is not 200."""
        environ["wsgi.input"] = io.BytesIO(body)
        chunks = self.app(environ, self.start_response)
        content = b"".join(chunks)
        if hasattr(chunks, "close"):
            chunks.close()
        if self.status != "200 OK":
            sys.exit(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {self.status} {content.decode()}")
        return content

    def cost(self, request: Request, count: int) -> float:
        """Send a request `count` times; return the CPU microseconds of one."""
        environ, exchange = request.environ(), self.exchange
        start = time.process_time()
        for _ in range(count):
            exchange(environ.copy(), request.body)
        return (time.process_time() - start) * 1e6 / count


def prepare_routes(client: Client, database_url: str) -> dict[str, Request]:
    """Open a session, cancel its track so that reading it calls no store, and return a request for each route."""
    body = json.dumps({"collection_id": COLLECTION, "track": json.loads(TRACK)}).encode()
    created = client.send(Request("POST", "/v1/upload_session", body))
    session_id, track_id = created["upload_session_id"], created["track_id"]
    database = open_database(database_url)
    Track.update(status="cancelled").where(Track.id == track_id).execute(database)
    database.close()
    return {
        "track": Request("POST", f"/v1/upload/{session_id}/track", TRACK.encode()),
        "session": Request("POST", "/v1/upload_session", SESSION.encode()),
        "read": Request("GET", f"/v1/upload_session/{session_id}"),
        "get-track": Request("GET", f"/v1/upload/{session_id}/track/{track_id}"),
    }


def shape(value: Any) -> Any:
    """Return a JSON value with types in place of values."""
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else type(value).__name__


def main(name: str, settings: dict[str, str]) -> None:
    """Execute commands until standard input ends."""
    leave_out(name)
    from app import create_app

    database_url = settings["DATABASE_URL"]
    migrate(open_database(database_url))
    client = Client(create_app({**SETTINGS, **settings}))
    requests = prepare_routes(client, database_url)
    for request in requests.values():
        client.cost(request, WARM_UP_REQUESTS)
    for line in sys.stdin:
        command, route, *count = line.split()
        reply = shape(client.send(requests[route])) if command == "shape" else client.cost(requests[route], int(*count))
        print(json.dumps(reply, sort_keys=True), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
