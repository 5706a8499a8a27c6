"""The bucket's CORS rules, which let pages of other sites upload to it.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
METHODS = ("PUT", "POST", "GET", "HEAD")


def preflight_allows(
    status: int, headers: Mapping[str, str], origin: str, method: str, requested: Sequence[str]
) -> bool:
    """Return whether a preflight's response lets a page of `origin` send `method` with the `requested` headers."""

    def listed(name: str) -> set[str]:
        return {item.strip().lower() for item in (headers.get(name) or "").split(",")}

    allowed = listed("Access-Control-Allow-Headers")
    return (
        200 <= status < 300
        and headers.get("Access-Control-Allow-Origin") in ("*", origin)
        and bool({method.lower(), "*"} & listed("Access-Control-Allow-Methods"))
        and ("*" in allowed or {name.lower() for name in requested} <= allowed)
    )


def cors_rule(origins: Sequence[str]) -> dict[str, object]:
    """Return the rule that lets pages of `origins` upload, in the format of the AWS CLI."""
    return {
        "AllowedOrigins": list(origins),
        "AllowedMethods": list(METHODS),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


def add_rule(rules: bytes | None, origins: Sequence[str]) -> bytes:
    """Return the bucket's rules as XML: the existing `rules` unchanged, and one for `origins`."""
    ElementTree.register_namespace("", NAMESPACE)
    # Trusted: the store's response to a signed request, over a connection that the operator has configured.
    root = ElementTree.fromstring(rules) if rules else ElementTree.Element(f"{{{NAMESPACE}}}CORSConfiguration")  # noqa: S314
    rule = ElementTree.SubElement(root, f"{{{NAMESPACE}}}CORSRule")
    elements = [("AllowedOrigin", origin) for origin in origins] + [("AllowedMethod", method) for method in METHODS]
    for name, text in [*elements, ("AllowedHeader", "*"), ("ExposeHeader", "ETag"), ("MaxAgeSeconds", "3600")]:
        ElementTree.SubElement(rule, f"{{{NAMESPACE}}}{name}").text = text
    return bytes(ElementTree.tostring(root))
