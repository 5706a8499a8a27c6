"""Routes for programs other than clients: /healthz, /readyz, /metrics, and the public keys of receipts."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Response, current_app, request
from werkzeug.exceptions import NotFound

from storage import api_keys
from storage.errors import DatabaseUnavailable, ServiceError, StorageUnavailable
from storage.metrics import Metrics
from storage.probes import PROBE_TIMEOUT, ProbeResult, Probes
from storage.sharing import signing
from web.blueprint import StrictBlueprint
from web.request_log import QUIET
from web.requests import bearer_token, current_service
from web.responses import add_default_headers, json_response

logger = logging.getLogger("loadbay")

health = StrictBlueprint("health", __name__)

PARTIAL_METRICS = (
    "/metrics reports the requests of one process of several: set PROMETHEUS_MULTIPROC_DIR to an empty folder before "
    "the server starts, as gunicorn.conf.py does."
)

UNAVAILABLE_ERRORS: dict[str, type[ServiceError]] = {"database": DatabaseUnavailable, "store": StorageUnavailable}


def current_probes() -> Probes:
    """Return the probes of the service behind the current request, created on first use."""
    probes: dict[str, Probes] = current_app.extensions.setdefault("loadbay.probes", {})
    name = (request.blueprint or "").rpartition(".")[0]
    return probes.get(name) or probes.setdefault(name, Probes(current_service()))


@health.get("/healthz")
def healthz() -> Response:
    """Report that this process responds. It checks nothing else, so that no one restarts it for another's fault."""
    request.environ[QUIET] = True
    return json_response({})


@health.get("/.well-known/jwks.json")
def jwks() -> Response:
    """Return the public keys of receipts as a JWK set (RFC 7517, section 5)."""
    response = Response(orjson.dumps(signing.jwk_set(current_service())), content_type="application/jwk-set+json")
    response.headers["Cache-Control"] = "public, max-age=3600"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return add_default_headers(response)


@health.get("/readyz")
def readyz() -> Response:
    """Report the state of database and store, with the duration of each probe in milliseconds."""
    request.environ[QUIET] = True
    content: dict[str, Any] = {}
    errors: list[ServiceError] = []
    for name, probe in current_probes().check().items():
        error = probe_error(name, probe)
        errors += [error] if error else []
        seconds = PROBE_TIMEOUT if probe is None else probe.seconds
        content[name] = {"ok": error is None, "duration_ms": round(seconds * 1000, 2)}
    if not errors:
        return json_response(content)
    response = json_response({"message": errors[0].message, "code": errors[0].code, **content}, 503)
    response.headers["Retry-After"] = "1"
    return response


def probe_error(name: str, probe: ProbeResult[None] | None) -> ServiceError | None:
    """Return the error that a probe met, or that of a dependency which did not respond in time (None)."""
    return UNAVAILABLE_ERRORS[name]() if probe is None else probe.error


@health.get("/metrics")
def metrics() -> Response:
    """Return all metrics in the format of Prometheus or OpenMetrics."""
    service = current_service()
    if not service.metrics.enabled:
        raise NotFound
    api_keys.authorize_metrics(service, bearer_token())
    request.environ[QUIET] = True
    warn_of_partial_metrics(service.metrics)
    body, content_type = service.metrics.render(request.headers.get("Accept", ""), current_probes().gauges())
    return add_default_headers(Response(body, content_type=content_type))


def warn_of_partial_metrics(metrics: Metrics) -> None:
    """Log once that this process reports only its own metrics, although the server runs several."""
    if request.environ.get("wsgi.multiprocess") and metrics.folder is None and not metrics.hint_logged:
        metrics.hint_logged = True
        logger.warning(PARTIAL_METRICS)
