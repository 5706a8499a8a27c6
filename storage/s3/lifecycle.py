"""The bucket's lifecycle rules that clean up staging, should the service be gone or its database lost.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

PREFIXES = ("Filter/Prefix", "Filter/And/Prefix", "Prefix")
"""Where a store may tell the prefix of a rule; the last is S3's earlier form."""

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def staging_rules(prefix: str, deployment_id: str, days: int) -> list[dict[str, Any]]:
    """Return the rules for the staging `prefix` of a deployment, in the format of the AWS CLI.

    Objects expire after `days`, and a day later their earlier versions, if the bucket keeps any. The second rule
    removes the delete markers that are left then; S3 does not accept both in one.
    """
    return [
        {
            "ID": f"loadbay-staging-{deployment_id}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": days},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        },
        {
            "ID": f"loadbay-staging-markers-{deployment_id}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        },
    ]


def missing_rules(configuration: bytes | None, rules: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of `rules` that the bucket's `configuration` (XML) does not have, by id, prefix and status."""
    present = set()
    for rule in _parse(configuration).findall(_tag("Rule")):
        present.add((rule.findtext(_tag("ID")), _prefix_of(rule), rule.findtext(_tag("Status"))))
    return [rule for rule in rules if (rule["ID"], rule["Filter"]["Prefix"], rule["Status"]) not in present]


def _prefix_of(rule: ElementTree.Element) -> str | None:
    paths = ("/".join(map(_tag, path.split("/"))) for path in PREFIXES)
    return next((prefix for path in paths if (prefix := rule.findtext(path)) is not None), None)


def merge_rules(configuration: bytes | None, rules: Sequence[dict[str, Any]]) -> bytes:
    """Return the bucket's rules as XML: those of others unchanged, and `rules` in place of those with the same ids."""
    ElementTree.register_namespace("", NAMESPACE)
    root = _parse(configuration)
    ids = {rule["ID"] for rule in rules}
    for present in root.findall(_tag("Rule")):
        if present.findtext(_tag("ID")) in ids:
            root.remove(present)
    for rule in rules:
        _append(root, "Rule", rule)
    return bytes(ElementTree.tostring(root))


def _parse(configuration: bytes | None) -> ElementTree.Element:
    # Trusted: the store's response to a signed request, over a connection that the operator has configured.
    root = ElementTree.fromstring(configuration) if configuration else ElementTree.Element("LifecycleConfiguration")  # noqa: S314
    for element in root.iter():
        # Some stores leave the namespace out.
        element.tag = _tag(element.tag.rpartition("}")[2])
    return root


def _append(parent: ElementTree.Element, name: str, value: object) -> None:
    element = ElementTree.SubElement(parent, _tag(name))
    if isinstance(value, dict):
        for child, content in value.items():
            _append(element, child, content)
    else:
        element.text = str(value).lower() if isinstance(value, bool) else str(value)


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
