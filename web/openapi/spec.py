"""The API's own description: OpenAPI 3.1, made of the routes and the schemas that run.

`SAID` holds what a route takes and answers; its path, method and first words come from the route itself.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import FieldConverterMixin
from flask import Flask
from marshmallow import Schema, fields

import schemas
from schemas import responses
from storage import errors
from web.openapi.examples import FORM, PARAMETERS, REQUEST, REQUESTS, TRACEPARENT, answer_example, error_example
from web.responses import DEFAULT_HEADERS, VERSION

UUID_PATH = {"type": "string", "format": "uuid"}
# What any route may answer, whatever is sent.
COMMON_ERRORS = ("invalid_request", "internal_error", "database_unavailable")
SESSION = ("session_not_found",)
TRACK = ("session_not_found", "track_not_found")
CLOSED_SESSION_ERRORS = ("session_expired", "session_closed")
LIMITS = ("track_limit_reached", "byte_limit_reached", "too_large", "too_many_requests")
STORE = ("storage_unavailable", "storage_rejected")
BODY = ("not_json", "too_large")
AUTH_ERRORS = ("unauthorized", "forbidden")


@dataclass(frozen=True)
class OperationSpec:
    """What a route takes and answers: schemas of body, query and answer, the codes of its errors, and its key."""

    answer: type[Schema]
    errors: tuple[str, ...] = ()
    body: type[Schema] | None = None
    query: type[Schema] | None = None
    key: str | None = None
    repeatable: bool = False
    form: bool = False
    links: dict[str, dict[str, str]] = field(default_factory=dict)


def _to_session(*operations: str) -> dict[str, dict[str, str]]:
    return {name: {"upload_session_id": "$response.body#/upload_session_id"} for name in operations}


def _to_track(*operations: str) -> dict[str, dict[str, str]]:
    both = {"upload_session_id": "$response.body#/upload_session_id", "track_id": "$response.body#/track_id"}
    return dict.fromkeys(operations, both)


def _to_any_track(*operations: str) -> dict[str, dict[str, str]]:
    return {name: {"track_id": "$response.body#/track_id"} for name in operations}


OPERATIONS = {
    "create_upload_session": OperationSpec(
        responses.SessionWithTrackAnswer,
        # A first track, and a request that is repeated, may meet what the route for tracks does.
        (*AUTH_ERRORS, *CLOSED_SESSION_ERRORS, *BODY, *LIMITS, *STORE, "track_not_found", "idempotency_key_reused"),
        body=schemas.CreateUploadSessionAsUploader, key="any", repeatable=True,
        links=_to_session("read_upload_session", "create_track", "list_tracks", "close_upload_session"),
    ),
    "read_upload_session": OperationSpec(schemas.UploadSessionCreatedOut, SESSION),
    "close_upload_session": OperationSpec(responses.ClosedAnswer, SESSION),
    "create_track": OperationSpec(
        schemas.TrackCreatedOut,
        (*TRACK, *CLOSED_SESSION_ERRORS, *BODY, *LIMITS, *STORE, "idempotency_key_reused"),
        body=schemas.CreateTrack, repeatable=True,
        links={
            **_to_track("read_track", "complete_track", "renew_track", "cancel_track", "list_parts"),
            **_to_any_track("get_track", "download_track", "replace_cover", "delete_track"),
        },
    ),
    "create_tracks": OperationSpec(
        responses.BatchAnswer,
        (*TRACK, *CLOSED_SESSION_ERRORS, *BODY, *LIMITS, *STORE, "idempotency_key_reused"),
        body=schemas.CreateTracks, repeatable=True,
    ),
    "list_tracks": OperationSpec(responses.TracksAnswer, SESSION, query=schemas.Pagination),
    "read_track": OperationSpec(responses.TrackResponse, (*TRACK, *STORE)),
    "cancel_track": OperationSpec(responses.TrackResponse, (*TRACK, *STORE, "track_state_conflict")),
    "complete_track": OperationSpec(responses.TrackResponse, (*TRACK, *STORE, "not_uploaded")),
    "renew_track": OperationSpec(schemas.TrackCreatedOut, (*TRACK, *CLOSED_SESSION_ERRORS, *STORE, "track_state_conflict")),
    "list_parts": OperationSpec(responses.PartsAnswer, (*TRACK, *STORE)),
    "sign_parts": OperationSpec(
        responses.SignedPartsAnswer, (*TRACK, *CLOSED_SESSION_ERRORS, *BODY, *STORE, "track_state_conflict"), body=schemas.SignParts
    ),
    "relay_cover": OperationSpec(
        responses.TrackRefResponse, (*TRACK, *CLOSED_SESSION_ERRORS, *STORE, "forbidden", "too_large", "unsupported_media_type", "track_state_conflict"),
        form=True,
    ),
    "list_upload_sessions": OperationSpec(responses.SessionsAnswer, AUTH_ERRORS, query=schemas.UploadSessionListQuery, key="full"),
    "list_collection_tracks": OperationSpec(responses.CollectionAnswer, AUTH_ERRORS, query=schemas.TrackListQuery, key="full"),
    "get_track": OperationSpec(responses.TrackResponse, (*AUTH_ERRORS, *STORE, "track_not_found"), key="full"),
    "delete_track": OperationSpec(responses.TrackRefResponse, (*AUTH_ERRORS, *STORE, "track_not_found"), key="full"),
    "download_track": OperationSpec(
        responses.DownloadAnswer, (*AUTH_ERRORS, *STORE, "track_not_found", "not_uploaded"), key="full"
    ),
    "replace_cover": OperationSpec(responses.CoverAnswer, (*AUTH_ERRORS, *STORE, "track_not_found", "not_uploaded"), key="full"),
    "create_api_key": OperationSpec(
        schemas.ApiKeyCreatedOut, (*AUTH_ERRORS, *BODY), body=schemas.CreateApiKey, key="full"
    ),
    "receive_store_event": OperationSpec(responses.CountAnswer, ("unauthorized", *BODY, *STORE), key="store"),
}  # fmt: skip

HEADER_DESCRIPTIONS = {
    "Loadbay-Version": "Which service answered.",
    "Cache-Control": "Nobody keeps an answer.",
}
ERRORS_BY_CODE: dict[str, type[errors.ServiceError]] = {
    kind.code: kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.ServiceError)
}


def _header(description: str, example: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example, **more}


HEADERS = {
    "X-Request-ID": _header("The same as api_request_id.", REQUEST, required=True),
    **{
        name: _header(HEADER_DESCRIPTIONS.get(name, "For browsers."), value, required=True)
        for name, value in DEFAULT_HEADERS
    },
    "Retry-After": _header("Seconds to wait before the next try.", "5"),
    "WWW-Authenticate": _header("What kind of key is needed.", 'Bearer realm="loadbay"'),
    "RateLimit": _header("What is left, where the deploy limits rates.", '"tracks";r=599;t=60'),
    "RateLimit-Policy": _header("The limit itself.", '"tracks";q=600;w=60'),
    "Allow": _header("The methods that the route takes.", "GET, HEAD, OPTIONS"),
}
COMMON_RESPONSE_HEADERS = ["X-Request-ID", *(name for name, _ in DEFAULT_HEADERS)]
COMMON_REQUEST_HEADERS = {
    "X-Request-ID": _header("A UUID that names the request, in the answer and in the log. Others do not.", REQUEST),
    "traceparent": _header("The trace that the request is part of (W3C Trace Context).", TRACEPARENT),
    "tracestate": _header("What belongs to it.", "vendor=1"),
}
"""What any request may bring along."""
# The draft's quotes around it may be left out; between them there is something.
IDEMPOTENCY_KEY_PATTERN = '^(?!""$)[!-~]([ -~]*[!-~])?$'
FIXED = ("invalid_request", "method_not_allowed")
RATE_LIMIT_HEADERS = ["RateLimit", "RateLimit-Policy"]
EVENT = {
    "type": "object",
    "description": "An S3 event notification, or one of SeaweedFS.",
    "additionalProperties": True,
}
SECURITY: dict[str | None, list[dict[str, list[str]]]] = {
    "any": [{"key": []}], "full": [{"key": []}], "store": [{"store": []}], None: [],
}  # fmt: skip


def _field_properties(converter: FieldConverterMixin, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """What our own kinds of field say of themselves, and that what is answered may be null."""
    found = dict(getattr(field, "described", {}))
    if isinstance(field.parent, schemas.ResponseSchema) and not isinstance(field, fields.Nested):
        known = found.get("type") or {fields.Integer: "integer", fields.List: "array"}.get(type(field), "string")
        if type(field) is not fields.Raw:
            found["type"] = [known, "null"] if not isinstance(field, fields.List) else known
        found.pop("format", None)
    return found


def _name(schema: Any) -> str:
    kind = schema if inspect.isclass(schema) else type(schema)
    return str(kind.__name__)


def build_spec(app: Flask, blueprint: str) -> dict[str, Any]:
    """The OpenAPI document of the routes of `blueprint` in `app`."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    info = {
        "description": "Upload sessions and presigned URLs in front of any S3 store. The id of a session is the "
        "credential for everything under it; an API key opens sessions, and reads across them."
    }
    spec = APISpec("Loadbay", VERSION, "3.1.0", plugins=[plugin], info=info)
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_field_properties)  # type: ignore[no-untyped-call]
    bearer = {"type": "http", "scheme": "bearer"}
    spec.components.security_scheme("key", {**bearer, "description": "An API key."})
    spec.components.security_scheme("store", {**bearer, "description": "STORE_EVENT_SECRET."})
    spec.components.schema("Error", _error_schema())
    for rule in app.url_map.iter_rules():
        name = rule.endpoint.removeprefix(f"{blueprint}.")
        if rule.endpoint == f"{blueprint}.{name}" and name in OPERATIONS:
            path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
            (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            view = app.view_functions[rule.endpoint]
            spec.path(
                path, operations={method.lower(): _operation(name, OPERATIONS[name], rule.arguments, view.__doc__)}
            )
    made = spec.to_dict()
    for name, schema in made["components"]["schemas"].items():
        _mark_required(name, schema)
    for methods in made["paths"].values():
        for parameter in (parameter for operation in methods.values() for parameter in operation["parameters"]):
            if "example" not in parameter:
                parameter["example"] = PARAMETERS.get(parameter["name"], parameter["schema"].get("enum", [None])[0])
    return made


def _operation(name: str, said: OperationSpec, arguments: set[str], payload: str | None) -> dict[str, Any]:
    told = inspect.cleandoc(payload or "")
    found: dict[str, Any] = {"operationId": name, "summary": told.partition("\n")[0], "security": SECURITY[said.key]}
    found["parameters"] = [
        {"name": argument, "in": "path", "required": True, "schema": UUID_PATH} for argument in sorted(arguments)
    ]
    found["parameters"] += [
        {"name": name, "in": "header", **payload} for name, payload in COMMON_REQUEST_HEADERS.items()
    ]
    if said.query is not None:
        found["parameters"].append({"in": "query", "schema": said.query})
    if said.repeatable:
        found["parameters"].append(
            {
                "name": "Idempotency-Key", "in": "header", "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY_PATTERN},
            }
        )  # fmt: skip
    if said.body is not None or said.key == "store":
        content: dict[str, Any] = {"schema": said.body or EVENT}
        content["example"] = REQUESTS[name]
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    if said.form:
        form = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
        content = {"schema": form, "encoding": {"file": {"contentType": "image/*"}}, "example": FORM}
        found["requestBody"] = {"required": True, "content": {"multipart/form-data": content}}
    found["responses"] = {"200": _success(said), **_failures(said)}
    return found


def _success(said: OperationSpec) -> dict[str, Any]:
    schema = {"allOf": [{"$ref": f"#/components/schemas/{_name(said.answer)}"}, _envelope(True)]}
    found: dict[str, Any] = {"description": inspect.cleandoc(said.answer.__doc__ or "")}
    content = {"schema": _with_inline_schema(said.answer, schema), "example": answer_example(said.answer)}
    found["content"] = {"application/json": content}
    found["headers"] = {name: HEADERS[name] for name in (*COMMON_RESPONSE_HEADERS, *_rate_limit_headers(said))}
    if said.links:
        found["links"] = {name: {"operationId": name, "parameters": values} for name, values in said.links.items()}
    return found


def _rate_limit_headers(said: OperationSpec) -> list[str]:
    """What tells of a limit: every answer after the request was counted, of whatever status."""
    return RATE_LIMIT_HEADERS if "too_many_requests" in said.errors else []


def _with_inline_schema(answer: type[Schema], schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, whose first reference apispec is to resolve, and so to register."""
    return {**schema, "allOf": [answer, *schema["allOf"][1:]]}


def _envelope(ok: bool) -> dict[str, Any]:
    properties = {"ok": {"const": ok}, "api_request_id": {"type": "string", "format": "uuid"}}
    return {"type": "object", "required": list(properties), "properties": properties}


def _failures(said: OperationSpec) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in (*COMMON_ERRORS, *said.errors):
        by_status.setdefault(ERRORS_BY_CODE[code].status, []).append(code)
    by_status[405] = ["method_not_allowed"]
    found = {}
    for status, codes in sorted(by_status.items()):
        names = [*COMMON_RESPONSE_HEADERS, *_rate_limit_headers(said)]
        names += ["Retry-After"] if status in (429, 503) else []
        names += ["WWW-Authenticate"] if status == 401 else []
        names += ["Allow"] if status == 405 else []
        sentences = [ERRORS_BY_CODE[code].default_message for code in codes if code in ERRORS_BY_CODE]
        allowed = {"properties": {"code": {"enum": sorted(set(codes))}}}
        schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, allowed]}
        found[str(status)] = {
            "description": " ".join(dict.fromkeys(sentences)) or "The route takes another method.",
            "content": {"application/json": {"schema": schema, "example": _example(codes[0])}},
            "headers": {name: HEADERS[name] for name in names},
        }
    return found


def _example(code: str) -> dict[str, Any]:
    return error_example(
        ERRORS_BY_CODE[code].default_message if code in ERRORS_BY_CODE else "The route takes another method.", code
    )


def _error_schema() -> dict[str, Any]:
    envelope = _envelope(False)
    text = {"type": "string"}
    envelope["properties"] |= {
        "message": {**text, "description": "A sentence for people, which names the field at fault."},
        "code": {**text, "description": "A word for programs, which stays."},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "Single faults of many items."},
    }
    return {**envelope, "required": [*envelope["required"], "message", "code"]}


def _mark_required(name: str, schema: dict[str, Any]) -> None:
    """An answer has all of its keys, whatever is known: only what is said to be optional may be left out."""
    kind = getattr(schemas, name, None) or getattr(responses, name, None)
    if kind is None or not issubclass(kind, schemas.ResponseSchema):
        return
    schema["required"] = [
        item.data_key or key for key, item in kind().fields.items() if not item.metadata.get("optional")
    ]
    # Within an answer it stands beside what every answer has.
    schema.pop("additionalProperties", None)
    for key, value in schema["properties"].items():
        if "$ref" in value:
            schema["properties"][key] = {"anyOf": [value, {"type": "null"}]}
