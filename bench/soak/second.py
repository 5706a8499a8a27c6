"""A second deployment in the bucket of the first, with the same prefix and a fresh SQLite database of its own."""

from __future__ import annotations

from minio import Minio

from dev.store import free_port

from .deployment import FLASK, Deployment, SupervisedProcess, gunicorn_command, run_flask, wait_until_ready


class SecondDeployment:
    """gunicorn with one worker, and `flask worker`, for the length of a `with` block.

    Of all faults only the store's affect it.
    """

    def __init__(self, first: Deployment):
        self.folder, self.store_client_of_first = first.folder / "second", first.store_client
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        database = f"sqlite:///{self.folder}/loadbay.db"
        self.env = {**first.settings, "DATABASE_URL": database, "WEB_CONCURRENCY": "1", "SWEEP_INTERVAL": "60"}
        commands = {
            "gunicorn": gunicorn_command(f"127.0.0.1:{port}"),
            "worker": [*FLASK, "worker"],
        }
        self.folder.mkdir()
        self.processes = [SupervisedProcess(name, command, self.env, self.folder) for name, command in commands.items()]

    def __enter__(self) -> SecondDeployment:
        run_flask(self.env, "prepare")
        for process in self.processes:
            process.start()
        wait_until_ready(self.origin)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stop()

    def store_client(self) -> Minio:
        """Return a client of the store with the service's own credentials."""
        return self.store_client_of_first()
