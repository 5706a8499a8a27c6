"""The abilities of a store, as the probe (storage/measuring/probing.py) has measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from storage.formats.checksums import ALGORITHMS, Algorithm


@dataclass(frozen=True)
class Abilities:
    """The outcome of a measurement of one bucket at one endpoint. None is unknown: it counts as the worse of both."""

    signatures: bool | None = None
    """Requests without a signature, with a wrong one, or for another key are rejected."""
    future_urls: bool | None = None
    """URLs that are dated in the future are accepted."""
    signed_size: bool | None = None
    """A PUT of another size than the signed one is rejected."""
    signed_type: bool | None = None
    """A PUT of another Content-Type than the signed one is rejected."""
    enforced_checksums: tuple[Algorithm, ...] = ()
    """A PUT of other bytes than a signed checksum says is rejected, and of these bytes accepted."""
    checksum_algorithm_header: bool = False
    """Checksums are enforced only with x-amz-sdk-checksum-algorithm beside them."""
    checksum_mode: bool | None = None
    """HEAD with x-amz-checksum-mode is answered."""
    reported_checksums: tuple[Algorithm, ...] = ()
    """HEAD has the right checksum of an object."""
    whole_checksums: tuple[Algorithm, ...] = ()
    """Checksums of a whole multipart upload that are compared when it is completed, and reported afterwards."""
    plain_put: bool | None = None
    """A PUT without a checksum or Content-MD5 is accepted. A bucket with Object Lock may demand one."""
    conditional_put: bool | None = None
    """A second PUT with If-None-Match is rejected, and leaves the object as it is."""
    post_policy: bool | None = None
    """A form with a policy is accepted, with its Content-Type."""
    enforced_policy: bool | None = None
    """A form that breaks its policy (size, type, key, signature, expiry) is rejected."""
    etags: bool | None = None
    """Objects have ETags, which change with their bytes."""
    copy: bool | None = None
    """An object can be copied."""
    conditional_copy: bool | None = None
    """A copy on condition of another ETag is rejected."""
    copy_keeps_etag: bool | None = None
    """A copy has the ETag of its source."""
    copy_replaces_headers: bool | None = None
    """A copy has none of the headers of its source."""
    keeps_types: bool | None = None
    """Objects have the Content-Type that they were written with."""
    ranges: bool | None = None
    """A range of an object can be read."""
    multipart: bool | None = None
    """A multipart upload can be created, listed, completed and aborted."""
    sealed_parts: bool | None = None
    """A part that is uploaded after its upload was completed leaves the object as it is."""
    upload_listing: bool | None = None
    """Unfinished multipart uploads can be listed."""
    object_listing: bool | None = None
    """Objects can be listed, page by page."""
    batch_delete: bool | None = None
    """Several objects can be deleted with one request."""
    versions: bool | None = None
    """The bucket keeps versions."""
    cors: bool | None = None
    """A page's preflight request is answered."""
    clock_skew: int | None = None
    """Seconds by which the store's clock is ahead of ours; None if it shows none."""
    region: str | None = None
    """The bucket's region, if the store rejects signatures for S3_REGION."""

    def json(self) -> dict[str, Any]:
        """Return the abilities as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Abilities:
        """Return the abilities of a JSON object. What this release does not know is left out."""
        known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        for name in ("enforced_checksums", "reported_checksums", "whole_checksums"):
            known[name] = tuple(item for item in ALGORITHMS if item in (known.get(name) or ()))
        return cls(**known)

    def doubted(self) -> Abilities:
        """Return the abilities as far as they hold with other settings: what was lacking still is, the rest unknown."""
        lacking: dict[str, Any] = {item.name: False for item in fields(self) if getattr(self, item.name) is False}
        return Abilities(**lacking, clock_skew=self.clock_skew, region=self.region)

    def changes_from(self, earlier: Abilities) -> list[str]:
        """Return a line for each ability that differs from an earlier measurement. The clock's skew is none."""
        before, after = earlier.json(), self.json()
        names = [name for name in after if after[name] != before[name] and name != "clock_skew"]
        return [f"{name}: {before[name]!r}, now {after[name]!r}" for name in names]
