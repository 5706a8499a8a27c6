"""How gunicorn runs the service: `gunicorn wsgi:app` reads this file by itself."""

import os

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

# One line for each request belongs to the proxy, and the path holds the session's id, which is a credential.
accesslog = None
