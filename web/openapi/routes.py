"""/openapi.json and /docs: the API's description for programs and for people."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from flask import Response, current_app, render_template, request, send_from_directory
from werkzeug.exceptions import NotFound

from web.blueprint import StrictBlueprint
from web.responses import add_default_headers, html_response

docs = StrictBlueprint("docs", __name__)

READER_PACKAGE = "flask_swagger_ui"
"""The package that carries Swagger UI; see requirements-docs.txt. Only its files are used, none of its code."""
READER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
READER_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"


def openapi_document() -> dict[str, Any]:
    """Return the document of the blueprint's registration, built on first use."""
    documents: dict[str, Any] = current_app.extensions.setdefault("loadbay.documents", {})
    blueprint = (request.blueprint or "").rpartition(".")[0]
    if blueprint not in documents:
        # Imported here, as most processes are never asked for it.
        from web.openapi.spec import build_spec

        documents[blueprint] = build_spec(current_app, blueprint)
    return {**documents[blueprint], "servers": [{"url": request.script_root or "/"}]}


def reader_folder() -> Path | None:
    """Return the folder of Swagger UI's files, or None if the package is not installed."""
    spec = find_spec(READER_PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "dist"


@docs.get("/openapi.json")
def openapi() -> Response:
    """Return the OpenAPI document."""
    return html_response(orjson.dumps(openapi_document()), "application/json", "default-src 'none'")


@docs.get("/docs")
def api_reference() -> Response:
    """Return the API reference: Swagger UI if it is installed, else a list of the routes."""
    document, reader = openapi_document(), reader_folder() is not None
    groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups[operation["tags"][0]].append({"path": path, "method": method.upper(), **operation})
    html = render_template("loadbay/api_docs.html", info=document["info"], groups=groups, reader=reader)
    return html_response(html, "text/html; charset=utf-8", READER_POLICY)


@docs.get("/docs/<path:file_name>")
def reader_file(file_name: str) -> Response:
    """Return a file of Swagger UI."""
    folder = reader_folder()
    if folder is None or file_name not in READER_FILES:
        raise NotFound
    response = send_from_directory(folder, file_name)
    response.headers["Cache-Control"] = "public, no-cache"
    return add_default_headers(response)
