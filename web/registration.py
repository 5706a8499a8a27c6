"""Registration of the blueprint: the service behind it, its hooks, and what the host application must know."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
from flask import Flask
from flask.blueprints import BlueprintSetupState
from flask.cli import NoAppException
from werkzeug.middleware.proxy_fix import ProxyFix

from storage.errors import ServiceError
from storage.http import waiting
from storage.service import Service
from storage.settings import FORWARDED_HEADERS, Settings, SettingsError
from web.cors import add_cors_headers
from web.log_format import REDACTING_FILTER
from web.pages.folder import load_page_defaults
from web.request_log import is_observed, record_request
from web.requests import BLUEPRINT_NAME

logger = logging.getLogger("loadbay")

STORE_UNREACHABLE_HINT = (
    "%s S3_ENDPOINT is %s: start the store there. A checkout of Loadbay has one: 'make store', or 'make run' for both."
)
APPLICATION_SETTING = (
    "%s must not be set for a blueprint, as it concerns the whole application: use werkzeug's ProxyFix, and Flask's "
    "own TRUSTED_HOSTS. create_app applies it."
)


class InvalidSettings(NoAppException, SettingsError):
    """A SettingsError that `flask` reports as an application that it cannot load, without a traceback."""


@contextmanager
def report_settings_errors() -> Iterator[None]:
    """Turn a SettingsError that is raised within a `flask` command into InvalidSettings."""
    try:
        yield
    except SettingsError as e:
        if click.get_current_context(silent=True) is None:
            raise
        raise InvalidSettings(str(e)) from e


def register_service(state: BlueprintSetupState) -> None:
    """Create a service for a registration, so that a host may register the blueprint more than once.

    Raises SettingsError.
    """
    with report_settings_errors():
        config = state.options.get("config", os.environ)
        settings = config if isinstance(config, Settings) else Settings.load(config)
        if not state.options.get("standalone"):
            _check_host_settings(settings)
        service = Service(settings)
        service.page_defaults = load_page_defaults(settings)
    if settings.create_missing:
        _create_missing(service)
    if service.pooled:
        state.app.teardown_appcontext(lambda _error: service.release())
        waiting.listen(service.release)
    name = f"{state.name_prefix}.{state.name}".lstrip(".")
    service.command = _command(state)
    state.app.extensions.setdefault(BLUEPRINT_NAME, {})[name] = service
    # The development server logs the paths of requests, which have session ids.
    logging.getLogger("werkzeug").addFilter(REDACTING_FILTER)
    # Hooks without a purpose in this registration are not installed. The last one runs first.
    hooks = state.app.after_request_funcs.setdefault(name, [])
    hooks += [partial(record_request, service)] if is_observed(service) else []
    hooks += [add_cors_headers] if settings.cors_origins else []


def _command(state: BlueprintSetupState) -> str:
    """Return the prefix of a registration's commands: of an application of its own, or of a group in a host."""
    if state.options.get("standalone"):
        # "app" in a checkout, "loadbay.app" in an installed package.
        return f"flask --app {state.blueprint.import_name.removesuffix('.app')}"
    return f"flask {state.name}"


def _check_host_settings(settings: Settings) -> None:
    """Raise SettingsError for settings that only `create_app` can apply."""
    for name in ("trusted_proxies", "trusted_hosts"):
        if getattr(settings, name):
            raise SettingsError(APPLICATION_SETTING % name.upper())


def _create_missing(service: Service) -> None:
    """Create missing tables and the bucket. Without a store the service starts all the same: presigning needs none."""
    # Imported here, as a deploy that has run `prepare` does not need it.
    from storage.measuring import stores
    from storage.webhooks import environment

    try:
        for line in service.create_missing() + environment.sync_endpoints(service):
            logger.info(line)
        for line in stores.learn_if_unknown(service):
            logger.info(line)
    except ServiceError as e:
        logger.warning(STORE_UNREACHABLE_HINT, e.message, service.settings.s3_endpoint)


def apply_proxy_settings(app: Flask, settings: Settings) -> None:
    """Apply TRUSTED_HOSTS and TRUSTED_PROXIES to an application of our own."""
    app.config["TRUSTED_HOSTS"] = list(settings.trusted_hosts) or None
    if hops := settings.trusted_proxies:
        trusted = {f"x_{name}": hops * (name in settings.trusted_proxy_headers) for name in FORWARDED_HEADERS}
        app.wsgi_app = ProxyFix(app.wsgi_app, **trusted)  # type: ignore[method-assign]
