"""FastFlask: a Flask subclass for performance, which skips steps that have nothing to do.

Hooks, signals and views that a host application registers work as they do in Flask.

Measured by `python -m bench --ablate` on 2026-11-26 (2 cores, shared with other work; CPython 3.11, Flask 3.1.3):
reading a session takes 144 us of CPU time with it and 214 without, a saving of 32% (30-33%). Of its parts, the URL
adapter saves 13% of a request, the callbacks that are collected once 11%, the lookup of routes 11%, and dispatching 7%.

It overrides methods that Flask documents as open to overriding, but depends on their signatures in Flask 3.1 and on
these private names: `Flask._got_first_request`, `RequestContext._after_request_functions`, and
`LocalProxy._get_current_object`. See web/flask_class.py for the versions it is used with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from flask import Flask, Request, Response
from flask.ctx import RequestContext
from flask.globals import request_ctx
from flask.signals import appcontext_tearing_down, request_finished, request_started, request_tearing_down
from werkzeug.routing import MapAdapter
from werkzeug.sansio.utils import get_host

from web.blueprint import NullSessionInterface
from web.fast import routes

Function = Callable[..., Any]


class RequestCallbacks(NamedTuple):
    """The functions to call around a view, in Flask's order."""

    url_value_preprocessors: list[Function]
    before_request: list[Function]
    after_request: list[Function]
    teardown_request: list[Function]


class RouteContext(RequestContext):
    """A request context that looks its route up by the shape of the path before Werkzeug matches it."""

    app: FastFlask

    def match_request(self) -> None:
        """Match the request as RequestContext does."""
        matched = routes.match(self.app.routes(), self.request.method, self.request.path)
        if matched is None:
            super().match_request()
        else:
            self.request.url_rule, self.request.view_args = matched


class FastFlask(Flask):
    """Flask that collects the view and the callbacks of a route once, as none can be added after the first request.

    For each request, Flask searches the blueprints four times, checks whether each function is a coroutine, and sends
    signals that have no receivers.
    """

    session_interface = NullSessionInterface()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._callbacks: dict[str | None, RequestCallbacks] = {}
        self._views: dict[str, Function] = {}
        self._routes: routes.Routes | None = None

    def request_context(self, environ: dict[str, Any]) -> RouteContext:
        """Return the context of a request as Flask does."""
        return RouteContext(self, environ)

    def routes(self) -> routes.Routes:
        """Return the routes that are looked up; none before the first request."""
        if self._routes is None and self._got_first_request:
            self._routes = routes.NO_ROUTES if self.subdomain_matching else routes.find_routes(self.url_map)
        return self._routes or routes.NO_ROUTES

    def callbacks_for(self, context: RequestContext) -> RequestCallbacks:
        """Return the functions to call for the request of `context`."""
        rule = context.request.url_rule
        endpoint = None if rule is None else rule.endpoint
        callbacks = self._callbacks.get(endpoint)
        if callbacks is None:
            callbacks = self._collect_callbacks(context.request.blueprints)
            if self._got_first_request:
                self._callbacks[endpoint] = callbacks
        return callbacks

    def _collect_callbacks(self, blueprints: list[str]) -> RequestCallbacks:
        inward, outward = (None, *reversed(blueprints)), (*blueprints, None)
        return RequestCallbacks(
            self._functions(self.url_value_preprocessors, inward, iter),
            self._functions(self.before_request_funcs, inward, iter),
            self._functions(self.after_request_funcs, outward, reversed),
            self._functions(self.teardown_request_funcs, outward, reversed),
        )

    def _functions(
        self, registered: Mapping[str | None, list[Any]], names: Iterable[str | None], order: Function
    ) -> list[Function]:
        return [self.ensure_sync(function) for name in names for function in order(registered.get(name, ()))]

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return the adapter that matches `request`. Raises SecurityError for a host that is not in TRUSTED_HOSTS.

        Flask and Werkzeug each parse and encode the host, which is a tenth of the time that Flask takes. No rule of
        this service names a host.
        """
        if self.config["SERVER_NAME"] is not None or (request is not None and "HTTP_UPGRADE" in request.environ):
            return super().create_url_adapter(request)
        if request is None:
            return None
        trusted = self.config["TRUSTED_HOSTS"]
        trusted = tuple(trusted) if isinstance(trusted, list) else trusted
        host = _cached_host(request.scheme, request.environ.get("HTTP_HOST"), request.server, trusted)
        request.host = host
        query = request.query_string.decode(errors="replace")
        return MapAdapter(
            self.url_map, host.lower(), request.root_path, "", request.scheme, request.path, request.method, query
        )

    def full_dispatch_request(self) -> Response:
        """Handle the request as Flask does, and look its context up once."""
        if request_started.receivers or not self._got_first_request:
            return super().full_dispatch_request()
        context = _current_context()
        try:
            rv = self._preprocess(context)
            if rv is None:
                rv = self._dispatch(context)
        except Exception as e:
            rv = self.handle_user_exception(e)
        return self.finalize_request(rv)

    def preprocess_request(self) -> Any:
        """Call the callbacks before the view as Flask does."""
        return self._preprocess(_current_context())

    def _preprocess(self, context: RequestContext) -> Any:
        callbacks, request = self.callbacks_for(context), context.request
        for preprocess in callbacks.url_value_preprocessors:
            preprocess(request.endpoint, request.view_args)
        for function in callbacks.before_request:
            response = function()
            if response is not None:
                return response
        return None

    def dispatch_request(self) -> Any:
        """Call the view as Flask does."""
        return self._dispatch(_current_context())

    def _dispatch(self, context: RequestContext) -> Any:
        request = context.request
        if request.url_rule is None or request.routing_exception is not None or request.method == "OPTIONS":
            return super().dispatch_request()
        endpoint = request.url_rule.endpoint
        view = self._views.get(endpoint)
        if view is None:
            view = self.ensure_sync(self.view_functions[endpoint])
            if self._got_first_request:
                self._views[endpoint] = view
        return view(**(request.view_args or {}))

    def finalize_request(self, rv: Any, from_error_handler: bool = False) -> Response:
        """Return the response of a view as Flask does, without a signal that nobody receives."""
        if from_error_handler or request_finished.receivers:
            return super().finalize_request(rv, from_error_handler)
        return self.process_response(self.make_response(rv))

    def process_response(self, response: Response) -> Response:
        """Call the callbacks after the view as Flask does. With NullSessionInterface there is no session to save."""
        if type(self.session_interface) is not NullSessionInterface:
            return super().process_response(response)
        context = _current_context()
        for function in context._after_request_functions:
            response = self.ensure_sync(function)(response)
        for function in self.callbacks_for(context).after_request:
            response = function(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Call the teardown callbacks of the request as Flask does."""
        for function in self.callbacks_for(_current_context()).teardown_request:
            function(exc)
        if request_tearing_down.receivers:
            request_tearing_down.send(self, _async_wrapper=self.ensure_sync, exc=exc)

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Call the teardown callbacks of the application as Flask does."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(exc)


def _current_context() -> RequestContext:
    context: RequestContext = request_ctx._get_current_object()  # type: ignore[attr-defined]
    return context


_cached_host = lru_cache(maxsize=16)(get_host)
