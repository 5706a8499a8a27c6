"""How gunicorn runs, the same for both sides."""

workers = 2
worker_class = "sync"
loglevel = "warning"
control_socket_disable = True
