"""gunicorn's configuration, which `gunicorn wsgi:app` reads by itself. https://docs.gunicorn.org/en/stable/settings.html

The master process imports nothing of the service but its worker class, so that a reload (SIGHUP) loads all of it anew.
"""

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

from web.gunicorn_worker import LeaderWorker

# Deploy platforms set PORT.
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"

# A request takes less than a millisecond of CPU and one short write: one or two workers for each core. While a request
# waits for the store, another thread of its worker accepts the next ones; see web/gunicorn_worker.py. Workers need a
# buffering proxy in front, which shields them from slow clients; see docs/deploy.md.
worker_class = LeaderWorker
# In each worker 15 requests may wait for the store at the same time, while one thread accepts others.
threads = 16
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# Seconds. The slowest legitimate request is a relayed cover: MAX_COVER_BYTES to the store. LONG_TIMEOUT in
# storage/s3/bucket.py ends first, so that a store that hangs leads to a response rather than to a killed worker.
timeout = 60
# Seconds that a shutdown or reload waits for requests in flight.
graceful_timeout = 20
# Seconds. Our workers close every connection after its response; this matters only for another worker class.
keepalive = 5

# No less than what nginx accepts (large_client_header_buffers, 8k), so that nginx rejects what is too large. The number
# of headers leaves room for those of browsers and proxies.
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190

# The workers' heartbeat file: touching it may block on a busy disk, but not in memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

# Proxy headers are evaluated by the service, according to TRUSTED_PROXIES and TRUSTED_PROXY_HEADERS. gunicorn itself
# would trust every client on this machine.
secure_scheme_headers = {}
forwarder_headers = ""

# No control socket: signals suffice, and there is no file to protect.
control_socket_disable = True

# gunicorn's access log has the path, and so the session's id, which is a credential. The service logs requests itself.
accesslog = None

# Limits for discarding the rest of a body that was rejected early: more than nginx accepts, and not for long.
MAX_UNREAD_BYTES, MAX_UNREAD_SECONDS = 16 * 2**20, 2


def post_request(worker, req, environ, resp):
    """Read the rest of the body: a proxy whose sending is interrupted may not read the response (RFC 9112, 9.6).

    gunicorn itself discards 64 KiB, which is less than a proxy may have buffered.
    """
    # Without a response the worker has timed out, and must not wait.
    responded = resp is not None and resp.headers_sent
    unread = min(getattr(req.body.reader, "length", 0), MAX_UNREAD_BYTES) if responded else 0
    deadline = monotonic() + MAX_UNREAD_SECONDS if unread else 0
    # The client may have disconnected, which is no error.
    with suppress(OSError, KeyError):
        while unread > 0 and (seconds := deadline - monotonic()) > 0:
            environ["gunicorn.socket"].settimeout(seconds)
            unread -= len(req.body.read(min(unread, 2**20))) or unread


def write_error(sock, status, reason, _message):
    """Send gunicorn's own errors in the format of the service's. Nothing of the request is repeated."""
    # Only workers call this, and they have imported the service already.
    from storage.errors import InvalidRequest, ServiceError
    from web.responses import DEFAULT_HEADERS

    error = ServiceError() if status == 500 else InvalidRequest(f"{reason}: this is not a valid HTTP request.")
    request_id = str(uuid4())
    logging.getLogger("gunicorn.error").warning("Rejected a request with status %s (%s)", status, request_id)
    body = json.dumps({"ok": False, "message": error.message, "code": error.code, "api_request_id": request_id})
    headers = [("Connection", "close"), ("Content-Type", "application/json"), ("Content-Length", len(body))]
    headers += [("X-Request-ID", request_id), *DEFAULT_HEADERS]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    util.write_nonblock(sock, f"HTTP/1.1 {status} {reason}\r\n{head}\r\n{body}".encode("latin-1"))


# gunicorn has no setting for this; gunicorn/workers/base.py looks the function up in its module at each call.
util.write_error = write_error


# --- Logs and metrics ------------------------------------------------------------------------------------------------

# A deploy's logs are read by programs. The service logs each request itself; see web/request_log.py.
os.environ["LOG_FORMAT"] = os.environ.get("LOG_FORMAT") or "json"
os.environ["LOG_REQUESTS"] = os.environ.get("LOG_REQUESTS") or "1"


class JSONFormatter(logging.Formatter):
    """Formats gunicorn's own messages, like web/log_format.py, which the master must not import."""

    def format(self, record):
        """Return the record as a line of JSON."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line)


def post_worker_init(worker):
    """Redact session ids in what a worker logs, in both formats."""
    from web.log_format import REDACTING_FILTER

    worker.log.error_log.addFilter(REDACTING_FILTER)


if os.environ["LOG_FORMAT"] == "json":
    logconfig_dict = {
        "formatters": {"json": {"()": JSONFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stderr"], "propagate": False}},
        "root": {"level": "WARNING", "handlers": []},
    }

# Each worker writes its metrics to a file of its own in this folder, which must be empty at startup; see
# storage/metrics/prometheus.py. The folder is created with the first metric: METRICS_TOKEN may be set by `config`.
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(Path(worker_tmp_dir or gettempdir()) / f"loadbay-metrics-{uuid4()}")
    os.environ["LOADBAY_OWNS_METRICS_DIR"] = "1"


def child_exit(server, worker):
    """Keep the metrics of an exited worker, and remove its files."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and os.path.isdir(folder):
        # An exception here would end the master.
        try:
            merge_worker_metrics(Path(folder), worker.pid)
        except Exception:
            server.log.exception("Failed to merge the metrics of worker %s", worker.pid)


def merge_worker_metrics(folder, pid):
    """Add the metrics of an exited process to the file for all exited processes, while no scrape reads."""
    import fcntl

    from prometheus_client.mmap_dict import MmapedDict

    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for kind in ("counter", "histogram"):
            path = folder / f"{kind}_{pid}.db"
            if path.exists():
                merged = MmapedDict(str(folder / f"{kind}_exited.db"))
                for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
                    merged.write_value(key, merged.read_value(key)[0] + value, 0.0)
                merged.close()
                path.unlink()


def on_exit(server):
    """Remove the folder that was created for this run."""
    if os.environ.get("LOADBAY_OWNS_METRICS_DIR"):
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
