"""The performance tricks of the service, each with the plain code that it replaces.

`leave_out(name)` patches the modules of the service for good, so it belongs into a process of its own, before that
imports `app`. A plain version does what any developer would have written with the documented API of the library.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flask
import marshmallow
import orjson
from flask import Flask, Request, Response

import schemas.fast_dump
import schemas.fast_load
import storage.clock
import storage.db.connection
import storage.ids
import storage.metrics.prometheus
import storage.s3.presign
import storage.uploads.tracks
import web.errors
import web.fast.body
import web.fast.log
import web.fast.proxies
import web.fast_flask
import web.health
import web.log_format
import web.openapi.routes
import web.pages.routes
import web.request_log
import web.requests
import web.responses
from storage.db.sqlite import LOCK_TIMEOUT, RetryingSqliteDatabase

PACKAGES = {"schemas", "storage", "web"}


def replace(original: object, plain: object) -> None:
    """Put `plain` into every module of the service that has imported `original`."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES]:
        for name, value in list(vars(module).items()):
            if value is original:
                setattr(module, name, plain)


def replace_cached(function: Any) -> None:
    """Take the cache off a function that has functools.lru_cache around it."""
    replace(function, function.__wrapped__)


# --- Flask -----------------------------------------------------------------------------------------------------------


def plain_flask() -> None:
    """Run the application as a plain Flask."""
    replace(web.fast_flask.FastFlask, Flask)


def plain_methods(*names: str) -> Callable[[], None]:
    """Return what takes these methods out of the Flask subclass, so that Flask's own are called."""

    def patch() -> None:
        for name in names:
            setattr(web.fast_flask.FastFlask, name, getattr(Flask, name))

    return patch


# --- Requests and responses ------------------------------------------------------------------------------------------


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return a response as Flask's documentation makes one, with the same headers and body."""
    request_id = web.requests.request_id()
    body = orjson.dumps({"ok": status < 400, "api_request_id": request_id, **content})
    headers = [("X-Request-ID", request_id), *web.responses.DEFAULT_HEADERS]
    headers += flask.request.environ.get(web.requests.RATE_HEADERS, ())
    return Response(body, status, headers, mimetype="application/json")


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, read by Flask."""
    request.max_content_length = limit
    return request.get_data(cache=False)


def plain_proxies() -> None:
    """Use Flask's proxies."""
    replace(web.fast.proxies.wsgi_environ, lambda: flask.request.environ)
    replace(web.fast.proxies.current_request, lambda: flask.request)
    replace(web.fast.proxies.current_application, lambda: flask.current_app)


def plain_load() -> None:
    """Load requests with marshmallow's own `load`."""
    schemas.fast_load.FastLoadSchema.load = marshmallow.Schema.load  # type: ignore[method-assign, assignment]


def plain_dump() -> None:
    """Dump responses with marshmallow's own `dump`, a null for each missing value."""
    schemas.fast_dump.FastDumpSchema.dump = marshmallow.Schema.dump  # type: ignore[method-assign, assignment]
    for schema in subclasses(schemas.fast_dump.FastDumpSchema):
        for field in schema._declared_fields.values():
            if not field.metadata.get("optional"):
                field.dump_default = None


def subclasses(kind: type[Any]) -> list[Any]:
    """Return all classes derived from `kind`."""
    return [item for child in kind.__subclasses__() for item in (child, *subclasses(child))]


# --- Ids and times ---------------------------------------------------------------------------------------------------


def new_uuid4() -> str:
    """Return a UUIDv4 from the standard library."""
    return str(uuid.uuid4())


def new_uuid7_and_index() -> tuple[str, str]:
    """Return a UUIDv7, formatted by the standard library (which makes none before Python 3.14), and its index."""
    bits = bytearray(os.urandom(16))
    bits[:6] = (time.time_ns() // 1_000_000).to_bytes(6)
    bits[6] = bits[6] & 0x0F | 0x70
    bits[8] = bits[8] & 0x3F | 0x80
    value = uuid.UUID(bytes=bytes(bits))
    return str(value), urlsafe_b64encode(value.bytes)[:22].decode()


def plain_uuids() -> None:
    """Make UUIDs with the standard library."""
    replace(storage.ids.new_uuid4, new_uuid4)
    replace(storage.ids.request_id, new_uuid4)
    replace(storage.ids.new_uuid7_and_index, new_uuid7_and_index)


def plain_timestamps() -> None:
    """Format each timestamp anew."""
    replace_cached(storage.clock.isoformat_utc)
    replace_cached(schemas.fast_dump.format_timestamp)


def plain_signing() -> None:
    """Derive the signing key for each signature."""
    for name in ("_signing_context", "_signing_mac"):
        replace_cached(getattr(storage.s3.presign, name))


# --- Logs and metrics ------------------------------------------------------------------------------------------------


def log_request(fields: dict[str, Any]) -> None:
    """Log one request through `logging`."""
    web.log_format.REQUEST_LOGGER.info("request", extra={"request": fields})


# --- SQLite under two writers ----------------------------------------------------------------------------------------


def plain_checkpoint() -> None:
    """Leave checkpoints to SQLite: at every 1,000 pages, which is its default."""
    storage.db.sqlite.CHECKPOINT_INTERVAL = sys.maxsize
    storage.db.sqlite.SQLITE_PRAGMAS["wal_autocheckpoint"] = 1000


def plain_lock_waiting() -> None:
    """Leave waiting for a lock to SQLite's busy handler."""
    storage.db.sqlite.SQLITE_PRAGMAS["busy_timeout"] = int(LOCK_TIMEOUT * 1000)
    RetryingSqliteDatabase._retry_while_locked = lambda self, call, *args: call(*args)  # type: ignore[method-assign]


class Trick(NamedTuple):
    """A trick: its title, the patch that leaves it out, and settings without which it does nothing."""

    title: str
    leave_out: Callable[[], None]
    settings: Mapping[str, str] = MappingProxyType({})


LOGS = {"LOG_REQUESTS": "1", "LOG_FORMAT": "json"}
CALLBACKS = ("full_dispatch_request", "preprocess_request", "process_response", "do_teardown_request")

TRICKS = {
    "flask": Trick("Flask subclass", plain_flask),
    "flask-routes": Trick("  its lookup of routes", plain_methods("request_context")),
    "flask-adapter": Trick("  its URL adapter and cached host", plain_methods("create_url_adapter")),
    "flask-callbacks": Trick("  its callbacks, collected once", plain_methods(*CALLBACKS)),
    "flask-dispatch": Trick("  its dispatch_request", plain_methods("full_dispatch_request", "dispatch_request")),
    "response": Trick("ready headers and body", lambda: replace(web.responses.json_response, json_response)),
    "body": Trick("hand-read body", lambda: replace(web.fast.body.read_body, read_body)),
    "load": Trick("own marshmallow load", plain_load),
    "dump": Trick("own marshmallow dump", plain_dump),
    "uuids": Trick("hand-made UUIDs", plain_uuids),
    "proxies": Trick("objects behind Flask's proxies", plain_proxies),
    "timestamps": Trick("cached timestamps", plain_timestamps),
    "signing": Trick("cached signing key and scope", plain_signing),
    "signing-scope": Trick("  its scope alone", lambda: replace_cached(storage.s3.presign._signing_context)),
    "statement": Trick("statement built once", lambda: replace_cached(storage.uploads.tracks._select_statement)),
    "log": Trick("log lines past logging", lambda: replace(web.fast.log.log_request, log_request), LOGS),
}
"""The tricks that are measured in one process, by name."""

WRITER_TRICKS = {
    "checkpoint": Trick("own checkpoints", plain_checkpoint),
    "lock": Trick("own lock waiting", plain_lock_waiting),
}
"""The tricks that mean something only with two writing processes."""

ALL_TRICKS = {**TRICKS, **WRITER_TRICKS}


def leave_out(name: str) -> None:
    """Patch this process so that it runs without the trick of this name; '' leaves out none."""
    if name:
        ALL_TRICKS[name].leave_out()
