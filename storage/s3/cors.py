"""The bucket's CORS rules: what lets browsers of other sites upload.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
METHODS = ("PUT", "POST", "GET", "HEAD")


def preflight_allows(status: int, headers: Mapping[str, str], origin: str, method: str, asked: Sequence[str]) -> bool:
    """Whether a preflight's answer lets a page of `origin` send `method` with the headers that it `asked` for."""

    def listed(name: str) -> set[str]:
        return {word.strip().lower() for word in (headers.get(name) or "").split(",")}

    allowed = listed("Access-Control-Allow-Headers")
    return (
        200 <= status < 300
        and headers.get("Access-Control-Allow-Origin") in ("*", origin)
        and bool({method.lower(), "*"} & listed("Access-Control-Allow-Methods"))
        and ("*" in allowed or {name.lower() for name in asked} <= allowed)
    )


def cors_rule(origins: Sequence[str]) -> dict[str, object]:
    """The rule that lets pages of `origins` upload, as AWS's own commands take it."""
    return {
        "AllowedOrigins": list(origins),
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


def add_rule(present: bytes | None, origins: Sequence[str]) -> bytes:
    """The bucket's rules as XML: those that are `present`, kept as they are, and one for `origins`."""
    ElementTree.register_namespace("", NAMESPACE)
    # The store's own answer, to a signed request, over a connection that the operator chose.
    root = ElementTree.fromstring(present) if present else ElementTree.Element(f"{{{NAMESPACE}}}CORSConfiguration")  # noqa: S314
    added = ElementTree.SubElement(root, f"{{{NAMESPACE}}}CORSRule")
    payload = [("AllowedOrigin", origin) for origin in origins] + [("AllowedMethod", method) for method in METHODS]
    for name, text in [*payload, ("AllowedHeader", "*"), ("ExposeHeader", "ETag"), ("MaxAgeSeconds", "3600")]:
        ElementTree.SubElement(added, f"{{{NAMESPACE}}}{name}").text = text
    return bytes(ElementTree.tostring(root))
