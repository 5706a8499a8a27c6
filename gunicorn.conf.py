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

# Deploy platforms choose the port and say so in PORT.
bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"

# A request is a few milliseconds of CPU and one short write, so plain sync workers serve it best: one or two for each
# core. gunicorn expects a proxy in front of them that holds slow clients back; see the README.
worker_class = "sync"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# The slowest request that is honest is a relayed cover: MAX_COVER_BYTES to the store, which may take a while.
timeout = 60
# A deploy waits this long for requests that have begun.
graceful_timeout = 20
# Sync workers close each connection after its answer; this is for the day when another class is chosen.
keepalive = 5

# Our longest path has two UUIDs; an API key and a browser's headers need little more.
limit_request_line = 2048
limit_request_fields = 64
limit_request_field_size = 8190

# A worker proves that it lives by touching a file. On a disk under load that may block; in memory it cannot.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

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
    left = min(getattr(req.body.reader, "length", 0), MAX_UNREAD_BYTES)
    deadline = monotonic() + MAX_UNREAD_SECONDS if left else 0
    # The other side may be gone, which is no fault of ours.
    with suppress(OSError, KeyError):
        while left > 0 and (seconds := deadline - monotonic()) > 0:
            environ["gunicorn.socket"].settimeout(seconds)
            left -= len(req.body.read(min(left, 2**20))) or left


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
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


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
            bury(Path(folder), worker.pid)
        except Exception:
            server.log.exception("The counts of worker %s could not be kept", worker.pid)


def bury(folder, pid):
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
