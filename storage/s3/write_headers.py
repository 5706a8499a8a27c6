"""Headers that objects are written with because the settings say so: encryption, storage class, tags, ids, owner.

A client must send those that are signed into its URL; `headers` beside a URL names them. What lies in staging has
neither storage class (some are billed for at least 30 days) nor ids: both come with the copy to the final key.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import orjson

from storage.settings import Settings

OWNER = "x-amz-expected-bucket-owner"
SOURCE_OWNER = "x-amz-source-expected-bucket-owner"
IF_NONE_MATCH = {"If-None-Match": "*"}
METADATA_COLUMNS = {"track": "id", "collection": "collection_id", "organization": "organization_id"}


class WriteHeaders:
    """The headers of one deployment. All are empty where no setting asks for any.

    `owner` belongs to every request, `staged` to a client's PUT to staging, `form` are the fields of a POST, which has
    no headers of its own, and `condition` is what a policy of the bucket demands of every object that is created.
    """

    def __init__(self, settings: Settings):
        self.owner = _present({OWNER: settings.s3_expected_bucket_owner})
        self.encryption = _present(
            {
                "x-amz-server-side-encryption": settings.s3_sse,
                "x-amz-server-side-encryption-aws-kms-key-id": settings.s3_sse_kms_key_id,
            }
        )
        self.condition = dict(IF_NONE_MATCH) if settings.s3_if_none_match else {}
        self._tags = _present({"x-amz-tagging": settings.s3_tagging})
        self._class = _present({"x-amz-storage-class": settings.s3_storage_class})
        self._ids = settings.s3_object_metadata
        self.staged = {**self.encryption, **self._tags, **self.owner, **self.condition}
        self.form = {**self.encryption, **_present({"tagging": _tagging_document(settings.s3_tagging)})}
        self.copied = {
            **(self._tags and {**self._tags, "x-amz-tagging-directive": "REPLACE"}),
            **(self.owner and {SOURCE_OWNER: settings.s3_expected_bucket_owner}),
        }
        """What only a copy has: it takes the tags of its source unless it is told others."""

    def final(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers of an object at the final key of a track (its row, or one with the same ids)."""
        return {**self.encryption, **self._tags, **self._class, **self.owner, **self.metadata(row)}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all headers that a client may have to send."""
        anything = dict.fromkeys(("session_id", *METADATA_COLUMNS.values()), "-")
        return tuple(name.lower() for name in self.final(anything))

    def metadata(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the ids that a track's objects carry.

        A session's id is the credential for the session, and whoever reads the bucket would see it: they carry its
        SHA-256 instead, from which an id of 86 random bits cannot be guessed.
        """
        headers: dict[str, str] = {}
        for name in self._ids:
            if name == "session":
                headers["x-amz-meta-upload-session-sha256"] = sha256(row["session_id"].encode()).hexdigest()
            elif value := row[METADATA_COLUMNS[name]]:
                headers[f"x-amz-meta-{name}-id"] = value
        return headers


def _present(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value}


def _tagging_document(tagging: str) -> str:
    """Return the value of a form's field `tagging`, which is XML.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html

    >>> _tagging_document("team=a%26b")
    '<Tagging><TagSet><Tag><Key>team</Key><Value>a&amp;b</Value></Tag></TagSet></Tagging>'
    """
    if not tagging:
        return ""
    root = ElementTree.Element("Tagging")
    tags = ElementTree.SubElement(root, "TagSet")
    for name, value in parse_qsl(tagging, keep_blank_values=True):
        tag = ElementTree.SubElement(tags, "Tag")
        ElementTree.SubElement(tag, "Key").text = name
        ElementTree.SubElement(tag, "Value").text = value
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def fingerprint(settings: Settings) -> str:
    """Return a digest of the settings that the outcome of a measurement depends on, in hexadecimal.

    They say where the store is asked, and what requests carry. A store may reject, for example, a form with tags.
    """
    written = WriteHeaders(settings)
    headers = (written.staged, written.form, written.copied, written.condition)
    addresses = (settings.s3_region, settings.s3_addressing, settings.s3_public_endpoint)
    return sha256(orjson.dumps([*addresses, *headers], option=orjson.OPT_SORT_KEYS)).hexdigest()


def copy_source(settings: Settings, key: str) -> str:
    """Return the source of a copy within the bucket, or within an access point, which is named by its ARN.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html; the caller encodes it.
    """
    arn = access_point_arn(settings)
    return f"{arn}/object/{key}" if arn else f"/{settings.s3_bucket}/{key}"


def access_point_arn(settings: Settings) -> str | None:
    """Return the ARN of the access point that the bucket's name stands for, or None for a bucket."""
    if not _host(settings).startswith("s3-accesspoint"):
        return None
    name, _, account = settings.s3_bucket.rpartition("-")
    return f"arn:{partition_of(settings)}:s3:{settings.s3_region}:{account}:accesspoint/{name}"


def partition_of(settings: Settings) -> str:
    """Return the partition of AWS that the endpoint is in, as ARNs begin with it."""
    host = _host(settings)
    return "aws-cn" if host.endswith(".cn") else "aws-us-gov" if "us-gov-" in host else "aws"


def _host(settings: Settings) -> str:
    return settings.s3_endpoint.partition("://")[2].lower()
