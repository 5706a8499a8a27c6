"""The ways in which the service treats its store, chosen in one place.

The abilities are measured (storage/s3/abilities.py); settings can override them. A setting can always choose the safer
way. The other one it gets only if the store bears it out: `contradictions` are refused. Until the store has been
measured, the safe way is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.formats.checksums import Algorithm
from storage.s3.abilities import Abilities
from storage.settings import Settings

CoverUpload = Literal["form", "put", "relay"]

UNSIGNED = (
    "The store does not check signatures: whoever can reach it can read and change everything in it. Use another one, "
    "or have it check them. ALLOW_UNSIGNED_STORE=1 accepts a store for tests."
)
NO_COPY = "The store cannot copy objects, so that no verified file reaches its final key. Use another store."
NO_RANGES = "The store sends no ranges of objects, so that no file can be inspected. Use another store."
WRITE_ONCE = (
    "WRITE_ONCE_PUT=1 does not fit the store, in which a PUT with If-None-Match replaces an object (measured). "
    "Remove the setting, or set 0."
)
CHECKSUMS = "CHECKSUM_HEADERS=1 does not fit the store, which enforces no checksum (measured). Remove it, or set 0."
FORM = (
    "COVER_UPLOAD=form does not fit the store, which does not enforce POST policies (measured). Remove it, or set "
    "another."
)
PUT = (
    "COVER_UPLOAD=put does not fit the store, which does not enforce a signed size and type, or demands a checksum "
    "with each PUT (measured). Set relay."
)
REGION = "The bucket is in the region {0}, so that URLs signed for {1} are rejected. Set S3_REGION={0}."


@dataclass(frozen=True)
class Choices:
    """The ways chosen. The defaults are the safe ones, for a store that has not been measured."""

    write_once: bool = False
    """Write-once PUTs go to the final key. Otherwise every single PUT goes to staging."""
    distrusts_write_once: bool = False
    """What came by a write-once URL is not trusted: the store is known to replace objects, or a setting says so."""
    cover_upload: CoverUpload = "relay"
    """Covers come by a form with a policy, by a signed PUT, or through the service."""
    signed_checksums: tuple[Algorithm, ...] = ()
    """Declared checksums that are signed into URLs, since the store enforces them."""
    signs_checksum_algorithm: bool = False
    """x-amz-sdk-checksum-algorithm is signed beside a checksum."""
    asks_checksums: bool = False
    """HEAD asks for checksums."""
    trusted_checksums: tuple[Algorithm, ...] = ()
    """Checksums that the store tells are believed: it enforces them, too. Any other file is read."""
    whole_checksums: tuple[Algorithm, ...] = ()
    """The store compares these when a multipart upload is completed."""
    trusts_copy: bool = False
    """A copy on condition of an ETag has these bytes. Otherwise the copy is inspected once it is at its final key."""
    keeps_types: bool = True
    """An object has the Content-Type that it was written with. Otherwise the store tells one of its own making."""
    multipart: bool = True
    """Tracks may have a multipart upload."""
    lists_objects: bool = True
    """Uploads are noticed by listing staging. Otherwise each track is asked for by its key."""
    batch_delete: bool = True
    """Objects are deleted a thousand at a time. Otherwise one by one."""


def choose(settings: Settings, abilities: Abilities | None) -> Choices:
    """Return the choices for a store with these abilities, or None if it has not been measured."""
    known = abilities or Abilities()
    enforced = known.enforced_checksums if settings.checksum_headers != "0" else ()
    asks = settings.checksum_headers != "0" and known.checksum_mode is True
    return Choices(
        write_once=settings.write_once_put != "0" and known.conditional_put is True,
        distrusts_write_once=settings.write_once_put == "0" or known.conditional_put is False,
        cover_upload=_cover_upload(settings, known),
        signed_checksums=enforced,
        signs_checksum_algorithm=known.checksum_algorithm_header,
        asks_checksums=asks,
        trusted_checksums=tuple(item for item in known.reported_checksums if asks and item in enforced),
        whole_checksums=known.whole_checksums if asks else (),
        trusts_copy=known.conditional_copy is True and known.etags is True and known.copy_replaces_headers is True,
        keeps_types=known.keeps_types is not False,
        # A URL of a part must not change a file that is uploaded.
        multipart=known.multipart is not False and known.sealed_parts is not False,
        lists_objects=known.object_listing is not False,
        batch_delete=known.batch_delete is not False,
    )


def _cover_upload(settings: Settings, known: Abilities) -> CoverUpload:
    possible: list[CoverUpload] = []
    possible += ["form"] if _enforces_forms(known) else []
    possible += ["put"] if _enforces_puts(known) else []
    possible += ["relay"]
    return next((way for way in possible if settings.cover_upload in ("auto", way)), "relay")


def _enforces_forms(known: Abilities) -> bool:
    return known.post_policy is True and known.enforced_policy is True


def _enforces_puts(known: Abilities) -> bool:
    # A cover's PUT has no checksum.
    return known.signed_size is True and known.signed_type is True and known.plain_put is True


def contradictions(settings: Settings, known: Abilities) -> list[str]:
    """Return a sentence for each setting that a measured store does not bear out, and each need that it does not meet.

    With any of them the service does not work: it would promise what the store does not keep.
    """
    problems = {
        UNSIGNED: known.signatures is False and not settings.allow_unsigned_store,
        NO_COPY: known.copy is False,
        NO_RANGES: known.ranges is False,
        WRITE_ONCE: settings.write_once_put == "1" and known.conditional_put is False,
        CHECKSUMS: settings.checksum_headers == "1" and not known.enforced_checksums,
        FORM: settings.cover_upload == "form" and not _enforces_forms(known),
        PUT: settings.cover_upload == "put" and not _enforces_puts(known),
        REGION.format(known.region, settings.s3_region): _is_elsewhere(settings, known),
    }
    return [sentence for sentence, applies in problems.items() if applies]


def _is_elsewhere(settings: Settings, known: Abilities) -> bool:
    return known.region is not None and known.region != settings.s3_region
