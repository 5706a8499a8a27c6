"""Configure gunicorn, alike for the bare view and for the service."""

import os

workers = int(os.environ.get("BENCH_WORKERS", "2"))
worker_class = "sync"
loglevel = "warning"
control_socket_disable = True
