"""The OpenAPI 3.1 document, built from the routes and their contracts."""

from __future__ import annotations

import inspect
import re
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import FieldConverterMixin
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from schemas import ResponseSchema
from storage.errors import DatabaseUnavailable, InvalidRequest, ServiceError
from web.contract import Auth, Contract, ErrorTypes
from web.openapi.examples import REQUEST_ID, error_example, response_example
from web.openapi.webhooks import webhook_paths
from web.responses import DEFAULT_HEADERS, VERSION

DESCRIPTION = (
    "Upload sessions and presigned URLs in front of any S3 store. The ID of a session is the credential for everything "
    "under it; an API key opens sessions, and reads across them."
)
TAGS = {
    "Upload sessions": "Open, read and close upload sessions.",
    "Tracks": "Register tracks within a session and follow them. The session's ID is the credential.",
    "Multipart uploads": "Upload large files in parts.",
    "Covers": "Upload cover images.",
    "Organization": "Read and change everything of an organization, with a full API key.",
    "Store": "Notifications that the S3 store sends.",
}
COMMON_ERRORS: ErrorTypes = (InvalidRequest, ServiceError, DatabaseUnavailable)
"""Errors of every route."""
METHOD_NOT_ALLOWED = "Method Not Allowed: see the API reference."


# --- Headers and parameters ------------------------------------------------------------------------------------------


def _header(description: str, example: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example, **more}


HEADER_DESCRIPTIONS = {
    "Loadbay-Version": "The version of the service.",
    "Cache-Control": "Responses must not be cached.",
}
HEADERS = {
    "X-Request-ID": _header("The same as `api_request_id`.", REQUEST_ID, required=True),
    **{
        name: _header(HEADER_DESCRIPTIONS.get(name, "An instruction for browsers."), value, required=True)
        for name, value in DEFAULT_HEADERS
    },
    "Retry-After": _header("Seconds to wait before a retry.", "5"),
    "WWW-Authenticate": _header("The authentication scheme.", 'Bearer realm="loadbay"'),
    "RateLimit": _header("The remaining quota, if a rate limit is configured.", '"tracks";r=599;t=60'),
    "RateLimit-Policy": _header("The rate limit, if one is configured.", '"tracks";q=600;w=60'),
    "Allow": _header("The methods that the route accepts.", "GET, HEAD, OPTIONS"),
}
COMMON_RESPONSE_HEADERS = ["X-Request-ID", *(name for name, _ in DEFAULT_HEADERS)]
COMMON_REQUEST_HEADERS = {
    "X-Request-ID": _header("A UUID that identifies the request in the response and in the log.", REQUEST_ID),
    "traceparent": _header(
        "The trace that the request belongs to (W3C Trace Context).",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    "tracestate": _header("Vendor-specific data of the trace (W3C Trace Context).", "vendor=1"),
}
# The quotes of the draft around a key are optional; between them, there must be at least one character.
IDEMPOTENCY_KEY_PATTERN = '^(?!""$)[!-~]([ -~]*[!-~])?$'
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A unique key. A repeated request with the same key returns what the first one created.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY_PATTERN},
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}
PATH_PARAMETERS = {
    "upload_session_id": ("The ID of the upload session.", "6f1c8a52-37d4-4c0e-9a3b-2f5d71e8c904"),
    "track_id": ("The ID of the track.", "b3f0a6de-58c1-4e27-8d94-0c6a1be7f235"),
    "store_token": ("The setting STORE_EVENT_SECRET.", "a-secret-of-at-least-16-characters"),
    "collection_id": ("The ID of the collection.", "123e4567-e89b-12d3-a456-426614174000"),
}
BEARER = {"type": "http", "scheme": "bearer"}
SECURITY_SCHEMES = {
    "api_key": {**BEARER, "description": "An API key, as `Authorization: Bearer KEY`. Some routes require `full`."},
    "store_event_secret": {
        **BEARER,
        "description": "The setting STORE_EVENT_SECRET, as `Authorization: Bearer SECRET`.",
    },
}
SECURITY: dict[Auth | None, list[dict[str, list[str]]]] = {
    None: [],
    "api_key": [{"api_key": []}],
    "full_key": [{"api_key": ["full"]}],
    "store_secret": [{"store_event_secret": []}],
}
IMAGE_FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary", "description": "The image."}},
        },
        "encoding": {"file": {"contentType": "image/*"}},
        # A part of a form is bytes, which JSON cannot express.
        "example": {"file": "the bytes of cover.jpg"},
    }
}


# --- The document ----------------------------------------------------------------------------------------------------


def build_spec(app: Flask, blueprint: str) -> dict[str, Any]:
    """Return the OpenAPI document of the routes of `blueprint` in `app`."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    tags = [{"name": name, "description": description} for name, description in TAGS.items()]
    spec = APISpec("Loadbay", VERSION, "3.1.0", plugins=[plugin], info={"description": DESCRIPTION}, tags=tags)
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_field_properties)  # type: ignore[no-untyped-call]
    for name, scheme in SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    spec.components.schema("Error", _error_schema())
    contracts = _contracts(app, blueprint)
    for name, (rule, contract) in contracts.items():
        ids = contract.response().fields.keys()
        path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        links = {target: contracts[target][0].arguments & ids for target in contract.links}
        operation = _operation(name, contract, rule.arguments, links, app.view_functions[rule.endpoint].__doc__)
        spec.path(path, operations={method.lower(): operation})
    document = spec.to_dict()
    for _, contract in contracts.values():
        for schema in _response_schemas(contract.response):
            _mark_required(document["components"]["schemas"][_schema_name(schema)], schema)
    return {**document, "webhooks": webhook_paths()}


def _contracts(app: Flask, blueprint: str) -> dict[str, tuple[Rule, Contract]]:
    """Return the rule and the contract of each route by the name of its view."""
    routes = {}
    for rule in app.url_map.iter_rules():
        contract = getattr(app.view_functions[rule.endpoint], "contract", None)
        if contract is not None and rule.endpoint.rpartition(".")[0] == blueprint:
            routes[rule.endpoint.rpartition(".")[2]] = rule, contract
    return routes


def _operation(
    name: str, contract: Contract, arguments: set[str], links: dict[str, set[str]], docstring: str | None
) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(docstring or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [contract.tag],
        "summary": summary.rstrip("."),
        "description": description.strip(),
        "security": SECURITY[contract.auth],
        "parameters": _parameters(contract, arguments),
        "responses": {"200": _success(contract, links), **_failures(contract)},
    }
    if contract.body is not None:
        content = {"schema": contract.body, "example": contract.body.EXAMPLE}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    elif contract.image_form:
        operation["requestBody"] = {"required": True, "content": IMAGE_FORM}
    return operation


def _parameters(contract: Contract, arguments: set[str]) -> list[dict[str, Any]]:
    parameters = [_path_parameter(name) for name in sorted(arguments)]
    parameters += [{"in": "query", "schema": contract.query}] if contract.query else []
    parameters += [IDEMPOTENCY_KEY] if contract.idempotent else []
    return parameters + [{"name": name, "in": "header", **header} for name, header in COMMON_REQUEST_HEADERS.items()]


def _path_parameter(name: str) -> dict[str, Any]:
    # A host application may add parameters of its own in front of the blueprint's paths.
    description, example = PATH_PARAMETERS.get(name, (f"The {name}.", name))
    schema = {"type": "string", **({"format": "uuid"} if name in PATH_PARAMETERS else {})}
    parameter = {"name": name, "in": "path", "required": True, "description": description}
    return {**parameter, "schema": schema, "example": example}


def _success(contract: Contract, links: dict[str, set[str]]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": inspect.cleandoc(contract.response.__doc__ or ""),
        "headers": {name: HEADERS[name] for name in _response_headers(contract)},
        "content": {
            "application/json": {
                "schema": {"allOf": [contract.response, _envelope(True)]},
                "example": response_example(contract.response),
            }
        },
    }
    if links:
        response["links"] = {
            target: {"operationId": target, "parameters": {name: f"$response.body#/{name}" for name in names}}
            for target, names in links.items()
        }
    return response


def _failures(contract: Contract) -> dict[str, Any]:
    by_status: dict[int, list[tuple[str, str]]] = {405: [("method_not_allowed", METHOD_NOT_ALLOWED)]}
    for error in dict.fromkeys((*COMMON_ERRORS, *contract.all_errors)):
        by_status.setdefault(error.status, []).append((error.code, error.default_message))
    return {str(status): _failure(contract, status, errors) for status, errors in sorted(by_status.items())}


def _failure(contract: Contract, status: int, errors: list[tuple[str, str]]) -> dict[str, Any]:
    codes = {"properties": {"code": {"enum": sorted(code for code, _ in errors)}}}
    examples = {code: {"value": error_example(message, code)} for code, message in errors}
    schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, codes]}
    names = _response_headers(contract)
    names += {401: ["WWW-Authenticate"], 405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    return {
        "description": " ".join(message for _, message in errors),
        "content": {"application/json": {"schema": schema, "examples": examples}},
        "headers": {name: HEADERS[name] for name in names},
    }


def _response_headers(contract: Contract) -> list[str]:
    """Return the headers of every response, whatever its status: a rate limit is applied before most errors."""
    return COMMON_RESPONSE_HEADERS + (["RateLimit", "RateLimit-Policy"] if contract.rate_limit else [])


# --- Schemas ---------------------------------------------------------------------------------------------------------


def _schema_name(schema: Any) -> str:
    """Return the name of a schema's component: that of its class, without the suffix."""
    kind = schema if inspect.isclass(schema) else type(schema)
    return str(kind.__name__).removesuffix("Schema")


def _field_properties(_converter: FieldConverterMixin, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """Return what a field type's own `json_schema` says, unless the field's metadata says otherwise."""
    properties = getattr(field, "json_schema", {})
    return {name: value for name, value in properties.items() if name not in field.metadata}


def _response_schemas(schema: type[Schema]) -> set[type[Schema]]:
    """Return the schema and all schemas nested in it."""
    schemas = {schema}
    for field in schema().fields.values():
        inner = field.inner if isinstance(field, fields.List) else field
        # Rules are in requests, too, where none is required.
        if isinstance(inner, fields.Nested) and isinstance(inner.schema, ResponseSchema):
            schemas |= _response_schemas(type(inner.schema))
    return schemas


def _mark_required(component: dict[str, Any], schema: type[Schema]) -> None:
    """Mark the keys that a response always has: all of them, null if unknown, but for optional ones."""
    component["required"] = [
        field.data_key or name for name, field in schema().fields.items() if not field.metadata.get("optional")
    ]
    # Within a response it stands beside the keys of the envelope.
    component.pop("additionalProperties", None)


def _envelope(ok: bool) -> dict[str, Any]:
    """Return the schema of the keys that all responses have."""
    properties = {
        "ok": {"const": ok, "description": "true for success, false for an error."},
        "api_request_id": {
            "type": "string",
            "format": "uuid",
            "description": "The request's ID, also in the log.",
        },
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _error_schema() -> dict[str, Any]:
    envelope = _envelope(False)
    envelope["properties"] |= {
        "message": {"type": "string", "description": "A sentence for people, which names the invalid field."},
        "code": {"type": "string", "description": "A stable identifier for programs."},
        "errors": {
            "type": "array",
            "items": {"type": "object"},
            "description": "The errors of single items, with their `index`, if a batch is rejected.",
        },
    }
    return {**envelope, "required": [*envelope["required"], "message", "code"]}
