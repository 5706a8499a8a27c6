"""How gunicorn runs, the same for both sides."""

import os

workers = int(os.environ.get("BENCH_WORKERS", "2"))
worker_class = "sync"
loglevel = "warning"
control_socket_disable = True
