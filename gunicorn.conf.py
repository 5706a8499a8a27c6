"""How gunicorn runs the service: `gunicorn wsgi:app` reads this file by itself."""

import json
import logging
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from time import monotonic
from uuid import uuid4

from gunicorn import util

# Deploy platforms choose the port and say so in PORT.
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"

# A request is a few milliseconds of CPU and one short write, so plain sync workers serve it best: one or two for each
# core. gunicorn expects a proxy in front of them that holds slow clients back; see the README.
worker_class = "sync"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# The slowest request that is honest is a relayed cover: MAX_COVER_BYTES to the store, which may take a while. The store
# is given up before (PATIENT in storage/bucket.py), so that a silent one ends in an answer and not with the worker.
timeout = 60
# A deploy waits this long for requests that have begun.
graceful_timeout = 20
# Sync workers close each connection after its answer; this is for the day when another class is chosen.
keepalive = 5

# No less than what nginx lets through (large_client_header_buffers, 8k): then it is nginx that says no. Beyond the
# service's own two dozen headers there is room for a browser's and a proxy's.
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190

# A worker proves that it lives by touching a file. On a disk under load that may block; in memory it cannot.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

# What a proxy says of scheme and path is heeded as TRUSTED_PROXIES and TRUSTED_PROXY_HEADERS say, and by nobody else:
# gunicorn would believe whoever calls from this machine.
secure_scheme_headers = {}
forwarder_headers = ""

# No socket for commands from outside: signals do all that is needed, and nobody has to guard a file.
control_socket_disable = True

# gunicorn's own line for each request holds the path, and that the session's id, which is a credential.
accesslog = None

# What a request that was refused early may still be sending: no more than nginx takes, and not for long.
MAX_UNREAD_BYTES, MAX_UNREAD_SECONDS = 16 * 2**20, 2


def post_request(worker, req, environ, resp):
    """Read what the service left unread, as a proxy whose sending breaks off never looks at the answer (RFC 9112, 9.6).

    gunicorn itself reads 64 KiB of it, which is less than a proxy has ready to send.
    """
    # Without an answer the worker has run out of time, and has none to wait.
    answered = resp is not None and resp.headers_sent
    left = min(getattr(req.body.reader, "length", 0), MAX_UNREAD_BYTES) if answered else 0
    deadline = monotonic() + MAX_UNREAD_SECONDS if left else 0
    # The other side may be gone, which is no fault of ours.
    with suppress(OSError, KeyError):
        while left > 0 and (seconds := deadline - monotonic()) > 0:
            environ["gunicorn.socket"].settimeout(seconds)
            left -= len(req.body.read(min(left, 2**20))) or left


def write_error(sock, status, reason, _said):
    """gunicorn's own refusals, in the shape that the service's errors have. What was sent is not repeated."""
    # Only workers come here, and they have imported the service.
    from storage.errors import InvalidRequest, ServiceError
    from web.responses import DEFAULT_HEADERS

    error = ServiceError() if status == 500 else InvalidRequest(f"{reason}: this is not a valid HTTP request.")
    id_ = str(uuid4())
    logging.getLogger("gunicorn.error").warning("It was answered by %s, as %s.", status, id_)
    content = {"ok": False, "message": error.message, "code": error.code, "api_request_id": id_}
    body = json.dumps(content)
    lines = [("Connection", "close"), ("Content-Type", "application/json"), ("Content-Length", len(body))]
    lines += [("X-Request-ID", id_), *DEFAULT_HEADERS]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    util.write_nonblock(sock, f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{body}".encode("latin-1"))


# gunicorn has no setting for this; it looks the function up by its name each time (gunicorn/workers/base.py).
util.write_error = write_error


# --- Logs and counts -------------------------------------------------------------------------------------------------

# Programs read the logs of a deploy. The service writes a line for each request itself: see logs.py.
os.environ["LOG_FORMAT"] = os.environ.get("LOG_FORMAT") or "json"
os.environ["LOG_REQUESTS"] = os.environ.get("LOG_REQUESTS") or "1"


class JSONLines(logging.Formatter):
    """gunicorn's own lines. The master imports nothing of the service's, so that a reload finds all of it new."""

    def format(self, record):
        """The record as a line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line)


def post_worker_init(worker):
    """Have what a worker logs of a request shortened, as the service's own lines are, whatever the format."""
    from web.log_format import REDACTING_FILTER

    worker.log.error_log.addFilter(REDACTING_FILTER)


if os.environ["LOG_FORMAT"] == "json":
    logconfig_dict = {
        "formatters": {"json": {"()": JSONLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
        "root": {"level": "WARNING", "handlers": []},
    }

# Each worker counts in a file of its own in this folder; see storage/prometheus.py. It must be empty at the start.
if os.environ.get("METRICS_TOKEN") and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(Path(worker_tmp_dir or gettempdir()) / f"loadbay-metrics-{uuid4()}")
    os.environ["LOADBAY_METRICS_MADE"] = "1"


def child_exit(server, worker):
    """Add what a worker has counted to what those before it have, so that nothing is lost and no file stays."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and os.path.isdir(folder):
        # A fault in here would end the master.
        try:
            merge_worker_metrics(Path(folder), worker.pid)
        except Exception:
            server.log.exception("The counts of worker %s could not be kept", worker.pid)


def merge_worker_metrics(folder, pid):
    """Move the counts of a process that ended to a file that all of them share, while nobody reads."""
    import fcntl

    from prometheus_client.mmap_dict import MmapedDict

    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for kind in ("counter", "histogram"):
            path = folder / f"{kind}_{pid}.db"
            if path.exists():
                kept = MmapedDict(str(folder / f"{kind}_ended.db"))
                for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
                    kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
                kept.close()
                path.unlink()


def on_exit(server):
    """Remove the folder that was made for this run."""
    if os.environ.get("LOADBAY_METRICS_MADE"):
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
