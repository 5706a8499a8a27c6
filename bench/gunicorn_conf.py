"""Configure gunicorn, alike for the bare view and for the service."""

import os

from web.gunicorn_worker import LeaderWorker

workers = int(os.environ.get("BENCH_WORKERS", "2"))
worker_class = LeaderWorker
threads = 16
loglevel = "warning"
control_socket_disable = True
