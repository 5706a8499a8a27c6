"""A host application whose modules, templates and static files have the names of Loadbay's source."""

from __future__ import annotations

import os

import commands
import docs
import schemas
import storage
from flask import Flask
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from loadbay import create_app as create_loadbay
from loadbay import loadbay

PLACE = os.environ["PLACE"]
"""The place of the upload service: `root` or `prefix` as a blueprint, `dispatcher` as an application of its own."""


def create_app() -> Flask:
    """Return the host, with its own tables in the database that the upload service uses, too."""
    host = Flask(__name__)
    host.config.update(SECRET_KEY="a-key-of-the-host", SQLALCHEMY_DATABASE_URI=storage.database_url())
    storage.db.init_app(host)
    CORS(host)
    Limiter(get_remote_address, app=host, default_limits=["10000/minute"], storage_uri="memory://")
    Talisman(host, force_https=False)
    csrf = CSRFProtect(host)
    host.register_blueprint(docs.blueprint)
    host.cli.add_command(commands.worker)
    settings = {**os.environ, "METRICS_TOKEN": "a-token-of-the-host"}
    if PLACE == "dispatcher":
        uploads = create_loadbay(settings)
        host.wsgi_app = DispatcherMiddleware(host.wsgi_app, {"/media": uploads})
    else:
        csrf.exempt(loadbay)
        host.register_blueprint(loadbay, url_prefix="/media" if PLACE == "prefix" else None, config=settings)
    with host.app_context():
        storage.create_tables()

    @host.get("/tracks")
    def tracks() -> dict[str, list[dict[str, str]]]:
        rows = storage.db.session.execute(storage.db.select(storage.Track)).scalars()
        return {"tracks": schemas.TrackSchema(many=True).dump(rows)}

    return host


app = create_app()
