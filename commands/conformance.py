"""The checks of `flask doctor --conformance`: uploads through a service of their own, on the configured store."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import Flask, current_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from storage.measuring import conformance, stores
from storage.measuring.contract_client import ContractClient
from storage.measuring.flow import Flow
from storage.measuring.probing import Observation, finish
from storage.s3.abilities import Abilities
from storage.service import Service
from storage.settings import Settings

SERVICES = "loadbay"
"""The key of the services in `app.extensions`, and the name of the blueprint."""


class SilentHandler(WSGIRequestHandler):
    """Serves requests without a line in the log for each."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Write nothing."""


def run(service: Service, abilities: Abilities) -> Generator[Observation, None, None]:
    """Yield the outcome of each check, and of the cleaning up, which is done if the checks are left early, too.

    The service has a database in a temporary folder, and keys below `.doctor/`: nothing of the configured one changes.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="loadbay-")))
        stack.enter_context(_quiet_log())
        settings = own_settings(service, folder)
        app, own = _application(service, settings)
        stack.callback(own.close)
        own.create_missing()
        stores.save(own, abilities)
        server = make_server("127.0.0.1", 0, app, request_handler=SilentHandler)
        client = ContractClient(f"http://127.0.0.1:{server.port}", settings.api_keys[0])
        flow = Flow(client, own.bucket, abilities, own.choices)
        try:
            with _running(server):
                yield from conformance.run_checks(flow)
        finally:
            client.close()
            remaining = finish(partial(flow.clean_up, settings.s3_prefix))
        detail = f"not removed: {', '.join(remaining)}" if remaining else ""
        yield Observation("cleanup", not remaining, detail)


def own_settings(service: Service, folder: Path) -> Settings:
    """Return the settings of the store, with a database in `folder`, and defaults for everything else."""
    own = {name: value for name, value in vars(service.settings).items() if name.startswith(("s3_", "aws_"))}
    for name in ("write_once_put", "cover_upload", "checksum_headers", "allow_unsigned_store"):
        own[name] = getattr(service.settings, name)
    return replace(
        Settings(**own),
        s3_public_endpoint=stores.endpoint_for(service),
        s3_prefix=f"{service.settings.s3_prefix}.doctor/{secrets.token_hex(8)}/",
        database_url=f"sqlite:///{folder}/conformance.db",
        api_keys=(secrets.token_urlsafe(32),),
        max_cover_bytes=conformance.MAX_COVER_BYTES,
        log_requests=False,
    )


def _application(service: Service, settings: Settings) -> tuple[Flask, Service]:
    """Return an application with the blueprint of the current one, and its service."""
    registered: dict[str, Service] = current_app.extensions[SERVICES]
    name = next(name for name, item in registered.items() if item is service)
    app = Flask("loadbay", static_folder=None)
    app.register_blueprint(
        current_app.blueprints[name], name=SERVICES, config=settings, standalone=True, cli_group=None
    )
    own: Service = app.extensions[SERVICES][SERVICES]
    return app, own


@contextmanager
def _running(server: BaseWSGIServer) -> Iterator[None]:
    """Serve requests in a thread; the one in progress is finished at the end."""
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Log errors only: the checks are meant to fail uploads and to remove them."""
    logger = logging.getLogger("loadbay")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
