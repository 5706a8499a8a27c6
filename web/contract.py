"""The contract of a route: a decorator that states its body, query, response, errors, auth and idempotency.

    @loadbay.post("/v1/upload/<upload_session_id>/track")
    @Contract(tag="Tracks", body=schemas.CreateTrack, response=schemas.TrackCreatedResponse, idempotent=True)
    def create_track(service, payload, key, upload_session_id): ...

The view gets what the contract loads, and returns a mapping that the response schema dumps. /openapi.json shows the
same schemas. Whatever does not depend on the request is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Literal

from flask import Response

from schemas import RequestSchema, ResponseSchema
from storage import api_keys
from storage.api_keys import Principal
from storage.clock import REQUEST_SECONDS, limit_time, unlimit_time
from storage.errors import (
    Forbidden,
    IdempotencyKeyReused,
    NotJSON,
    ServiceError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)
from storage.service import Service
from storage.uploads import idempotency, sessions
from storage.uploads.idempotency import RequestKey
from web.requests import (
    MAX_BODY_BYTES,
    bearer_token,
    current_service,
    hit_rate_limit,
    idempotency_key,
    load_body,
    load_payload,
    load_query,
)
from web.responses import json_response

View = Callable[..., Mapping[str, Any]]
Auth = Literal["api_key", "full_key", "store_secret"]
ErrorTypes = tuple[type[ServiceError], ...]

RELAY_SECONDS = 55.0
"""Time for a relayed cover, which is sent to the store: less than gunicorn's `timeout` (gunicorn.conf.py)."""

AUTH_ERRORS: dict[Auth | None, ErrorTypes] = {
    None: (),
    "api_key": (Unauthorized, Forbidden),
    "full_key": (Unauthorized, Forbidden),
    "store_secret": (Unauthorized,),
}


@dataclass(kw_only=True)
class Contract:
    """The contract of a route: what it accepts and returns, applied to its view as a decorator.

    The view is called with the service, then the caller (`auth` by an API key), the loaded body or query, and the
    request's idempotency key, each only if the contract has it; and with the ids of the path as keyword arguments.
    `retry_after` in what it returns (seconds, or None) is sent as the header Retry-After.
    """

    tag: str
    """The group of the route in the API reference."""
    response: type[ResponseSchema]
    errors: ErrorTypes = ()
    """The errors that the view raises. `all_errors` adds those of the contract itself."""
    body: type[RequestSchema] | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    image_form: bool = False
    """True if the body is a form with an image in its part `file`, which the view loads."""
    query: type[RequestSchema] | None = None
    auth: Auth | None = None
    idempotent: bool = False
    """True if the request may carry an Idempotency-Key, within the scope of its caller or session."""
    rate_limit: Literal["sessions", "tracks"] | None = None
    batch: str | None = None
    """The list in the body whose items the rate limit counts, each as one request."""
    links: tuple[str, ...] = ()
    """The views that take ids from the response."""

    @cached_property
    def _body_schema(self) -> RequestSchema | None:
        # With the first request, as each costs a start, and few processes get requests of all kinds.
        return self.body() if self.body else None

    @cached_property
    def _query_schema(self) -> RequestSchema | None:
        return self.query() if self.query else None

    @cached_property
    def _response_schema(self) -> ResponseSchema:
        return self.response()

    def __call__(self, view: View) -> Callable[..., Response]:
        """Return the function that Flask calls: load the request, call the view, dump what it returns."""
        seconds = RELAY_SECONDS if self.image_form else REQUEST_SECONDS

        @wraps(view)
        def handle(**ids: str) -> Response:
            token = limit_time(seconds)
            try:
                return respond(**ids)
            finally:
                unlimit_time(token)

        def respond(**ids: str) -> Response:
            service = current_service()
            service.refresh_choices()
            arguments = self._load(service, view.__name__, ids)
            try:
                content = view(service, *arguments, **ids)
            except idempotency.AlreadyReserved:
                # An identical request was faster; now the view finds what that one created.
                content = view(service, *arguments, **ids)
            response = json_response(self._response_schema.dump(content))
            if (retry_after := content.get("retry_after")) is not None:
                response.headers["Retry-After"] = str(retry_after)
            return response

        handle.contract = self  # type: ignore[attr-defined]
        return handle

    def call(
        self, view: View, service: Service, caller: Principal, payload: Mapping[str, Any], ids: Mapping[str, str]
    ) -> dict[str, Any]:
        """Call a view of this contract without a request, and return what it would respond.

        `payload` is the body or the query. Rate limits and credentials are those of requests. Raises ServiceErrors.
        """
        token = limit_time(REQUEST_SECONDS)
        try:
            service.refresh_choices()
            arguments: list[Any] = [] if self.auth is None else [caller]
            for schema in (self._body_schema, self._query_schema):
                arguments += [] if schema is None else [load_payload(schema, payload)]
            arguments += [None] if self.idempotent else []
            return self._response_schema.dump(view(service, *arguments, **ids))
        finally:
            unlimit_time(token)

    def _load(self, service: Service, view_name: str, ids: Mapping[str, str]) -> list[Any]:
        """Return the view's arguments after the service. Credentials and limits are checked before a body is read."""
        caller = None if self.auth is None else authenticate(service, self.auth)
        arguments: list[Any] = [] if caller is None else [caller]
        if service.rates is not None and self.batch is None:
            self._hit_rate_limit(service, caller, ids)
        if self.max_body_bytes > MAX_BODY_BYTES:
            _check_ids(service, ids)
        payload = {}
        if self._body_schema is not None:
            payload = load_body(self._body_schema, self.max_body_bytes)
            arguments.append(payload)
        if service.rates is not None and self.batch is not None:
            self._hit_rate_limit(service, caller, ids, len(payload[self.batch]))
        if self._query_schema is not None:
            arguments.append(load_query(self._query_schema))
        if self.idempotent:
            arguments.append(_request_key(view_name, caller, ids, payload))
        return arguments

    def _hit_rate_limit(
        self, service: Service, caller: Principal | None, ids: Mapping[str, str], cost: int = 1
    ) -> None:
        """Apply the rate limit, if the contract has one, by caller or by session. Raises TooManyRequests."""
        if self.rate_limit == "sessions" and caller is not None:
            hit_rate_limit(service, "sessions", caller.rate_limit_key, cost)
        elif self.rate_limit == "tracks" and service.rates is not None and "tracks" in service.rates.items:
            # An unknown session must not create a counter.
            sessions.read(service, ids["upload_session_id"])
            hit_rate_limit(service, "tracks", ids["upload_session_id"], cost)

    @property
    def all_errors(self) -> ErrorTypes:
        """The errors of the view, and those of loading, authentication, idempotency and rate limits."""
        errors = AUTH_ERRORS[self.auth] + self.errors
        errors += (NotJSON, TooLarge) if self.body else ()
        errors += (UnsupportedMediaType, TooLarge) if self.image_form else ()
        errors += (IdempotencyKeyReused,) if self.idempotent else ()
        errors += (TooManyRequests, TooLarge) if self.rate_limit else ()
        return tuple(dict.fromkeys(errors))


def _check_ids(service: Service, ids: Mapping[str, str]) -> None:
    """Raise SessionNotFound or Unauthorized: a large body is read only for whoever knows a session or the secret."""
    if "upload_session_id" in ids:
        sessions.read(service, ids["upload_session_id"])
    if "store_token" in ids:
        api_keys.authorize_store(service, ids["store_token"])


def _request_key(
    view_name: str, caller: Principal | None, ids: Mapping[str, str], payload: Mapping[str, Any]
) -> RequestKey | None:
    """Return the request's idempotency key, within the scope of its caller or session, or None without one."""
    key = idempotency_key()
    if key is None:
        return None
    scope = ids.get("upload_session_id") if caller is None else caller.rate_limit_key
    return idempotency.request_key(key, f"{view_name} {scope}", payload)


def authenticate(service: Service, auth: Auth) -> Principal | None:
    """Return the caller of a request with an API key, or None for the store. Raises Unauthorized, Forbidden."""
    token = bearer_token()
    if auth == "api_key":
        return api_keys.authenticate(service, token)
    if auth == "full_key":
        return api_keys.require_full_key(service, token)
    api_keys.authorize_store(service, token)
    return None
