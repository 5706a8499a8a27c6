"""For whoever runs the service: `/healthz`, `/readyz`, `/metrics`, and what is counted and logged of each request."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request
from werkzeug.exceptions import NotFound

from storage import api_keys
from storage.errors import DatabaseUnavailable, ServiceError, StorageUnavailable
from storage.probes import PROBE_TIMEOUT, Probes
from web.blueprint import StrictBlueprint
from web.request_log import QUIET
from web.requests import bearer_token, current_service
from web.responses import add_default_headers, json_response

operations = StrictBlueprint("operations", __name__)


UNAVAILABLE_ERRORS: dict[str, type[ServiceError]] = {"database": DatabaseUnavailable, "store": StorageUnavailable}


def current_probes() -> Probes:
    """The watch over the service behind the present request, made when it is first asked for."""
    made: dict[str, Probes] = current_app.extensions.setdefault("loadbay.watches", {})
    name = (request.blueprint or "").rpartition(".")[0]
    return made.get(name) or made.setdefault(name, Probes(current_service()))


@operations.get("/healthz")
def healthz() -> Response:
    """Whether this process answers. It asks nobody else, so that nobody restarts it for another's fault."""
    request.environ[QUIET] = True
    return json_response({})


@operations.get("/readyz")
def readyz() -> Response:
    """Whether the database and the store are there, and how long each took to say so."""
    request.environ[QUIET] = True
    content: dict[str, Any] = {}
    faults: list[ServiceError] = []
    for name, seen in current_probes().check().items():
        fault = UNAVAILABLE_ERRORS[name]() if seen is None else seen.error
        faults += [fault] if fault else []
        content[name] = {"ok": fault is None, "ms": round((PROBE_TIMEOUT if seen is None else seen.seconds) * 1000, 2)}
    if not faults:
        return json_response(content)
    first = faults[0]
    response = json_response({"message": first.message, "code": first.code, **content}, 503)
    response.headers["Retry-After"] = "1"
    return response


@operations.get("/metrics")
def metrics() -> Response:
    """What was counted, for Prometheus."""
    service = current_service()
    if not service.metrics.enabled:
        raise NotFound
    api_keys.authorize_metrics(service, bearer_token())
    request.environ[QUIET] = True
    body, content_type = service.metrics.render(request.headers.get("Accept", ""), current_probes().gauges())
    return add_default_headers(Response(body, content_type=content_type))
