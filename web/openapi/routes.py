"""`/openapi.json`, and `/docs`: the same to read, made here, so that it needs no other server."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any

import orjson
from flask import Response, current_app, render_template, request

from web.blueprint import StrictBlueprint
from web.openapi.spec import COMMON_REQUEST_HEADERS, build_spec
from web.responses import html_response

docs = StrictBlueprint("docs", __name__)

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: light-dark(#0a58ca, #7db1ff) }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem 1rem 5rem; max-width: 60rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.1rem; margin: 0 } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
a { color: var(--accent) } code, pre { font: .9em/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
nav { columns: 22rem; padding: 1rem 0 2rem } nav a { display: block; text-decoration: none; padding: .1rem 0 }
section { border-top: 1px solid var(--line); padding: 1.4rem 0 }
pre { background: var(--soft); padding: .8rem; border-radius: .4rem; overflow: auto; white-space: pre-wrap }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700 } .quiet { opacity: .75 }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
"""
POLICY = f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"


def openapi_document() -> dict[str, Any]:
    """The document of the routes beside this one, made when it is first asked for."""
    made: dict[str, Any] = current_app.extensions.setdefault("loadbay.documents", {})
    blueprint = (request.blueprint or "").rpartition(".")[0]
    if blueprint not in made:
        made[blueprint] = build_spec(current_app, blueprint)
    return {**made[blueprint], "servers": [{"url": request.script_root or "/"}]}


@docs.get("/openapi.json")
def openapi() -> Response:
    """The API's description, for programs."""
    return html_response(orjson.dumps(openapi_document()), "application/json", "default-src 'none'")


@docs.get("/docs")
def api_reference() -> Response:
    """The API's description, for people."""
    made = openapi_document()
    operations = [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in made["paths"].items()
        for method, operation in methods.items()
    ]
    names: dict[str, Any] = {
        "common": list(COMMON_REQUEST_HEADERS),
        "operations": operations,
        "style": STYLE,
        "flatten_fields": lambda schema: flatten_fields(made, schema),
    }
    html = render_template("docs.html", info=made["info"], curl_example=curl_example, **names)
    return html_response(html, "text/html; charset=utf-8", POLICY)


def flatten_fields(made: dict[str, Any], schema: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """Name, kind and bounds of what `schema` holds, what is nested under dotted names."""
    found: list[tuple[str, str, str]] = []
    for part in (schema or {}).get("allOf", [schema or {}]):
        part = _resolved(made, part)
        for name, value in part.get("properties", {}).items():
            inner = _resolved(made, value)
            many = inner.get("type") == "array"
            if many:
                inner = _resolved(made, inner["items"])
            needed = "required" if name in part.get("required", ()) else ""
            shown = name + ("[]" if many else "")
            found.append((shown, _kind(inner), ", ".join(filter(None, (needed, _bounds(inner))))))
            found += [(f"{shown}.{sub}", kind, bounds) for sub, kind, bounds in flatten_fields(made, inner)]
    return found


def _resolved(made: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    schema = schema.get("anyOf", [schema])[0]
    if "$ref" in schema:
        found: dict[str, Any] = made["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _kind(schema: dict[str, Any]) -> str:
    kinds = schema.get("type", "any")
    payload = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    return schema.get("format") or " or ".join(payload)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = [f"{low} to {high}"] if high is not None else []
    bounds += [f"at most {schema['maxLength']} characters"] if "maxLength" in schema else []
    bounds += [" | ".join(map(str, filter(None, schema["enum"])))] if "enum" in schema else []
    return ", ".join(bounds)


def curl_example(operation: dict[str, Any]) -> str:
    """A line that calls the operation. Where the service is, its reader knows; a request only says so."""
    payload = ["curl -sS"] + ([f"-X {operation['method']}"] if operation["method"] != "GET" else [])
    payload += ['-H "Authorization: Bearer $LOADBAY_KEY"'] if operation["security"] else []
    body = operation.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        sample = orjson.dumps(body["application/json"].get("example", {})).decode()
        payload.append(f"-H 'Content-Type: application/json' -d '{sample}'")
    elif body:
        payload.append("-F 'file=@cover.jpg;type=image/jpeg'")
    return " ".join([*payload, f'"$LOADBAY_SERVER{operation["path"]}"'])
