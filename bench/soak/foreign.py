"""Objects of others in the bucket, with keys like the service's own, and what became of them."""

from __future__ import annotations

import hashlib
import io
import random
from base64 import urlsafe_b64encode
from uuid import uuid4

from minio import Minio

from .ledger import Digest, object_digest

COPIES = 5
"""Objects of each shape."""


def shapes(rng: random.Random) -> list[str]:
    """Return a new key of each shape: files, covers and staged uploads of some other service, and other objects."""
    index, other = (urlsafe_b64encode(rng.randbytes(16))[:22].decode() for _ in range(2))
    return [
        f"{uuid4()}/{index}/{rng.randint(1, 99):02}-Soak.mp3",
        f"{uuid4()}/{index}.cover",
        f"{uuid4()}/{index}/cover",
        f"incoming/{other}/{index}.0",
        f"incoming/{other}/{index}.1.cover",
        f"incoming/{index}.0",
        f"incoming/{index}/{index}/{index}",
        f"backup/incoming/{other}/{index}.0",
        f"{index}/readme-{index}.txt",
    ]


def put_objects(client: Minio, bucket: str, seed: int) -> dict[str, Digest]:
    """Put objects of others into the bucket; return the digest of each by its key."""
    rng, digests = random.Random(seed), dict[str, Digest]()
    for key in [key for _ in range(COPIES) for key in shapes(rng)]:
        body = rng.randbytes(rng.randint(0, 10_000))
        client.put_object(bucket, key, io.BytesIO(body), len(body))
        digests[key] = hashlib.sha256(body).digest(), len(body)
    return digests


def touched(client: Minio, bucket: str, digests: dict[str, Digest]) -> list[str]:
    """Return the keys whose objects are gone, or have other bytes."""
    return [key for key, digest in digests.items() if object_digest(client, bucket, key) != digest]


def etags(client: Minio, bucket: str) -> dict[str, str | None]:
    """Return the ETag of each object in the bucket by its key."""
    return {str(item.object_name): item.etag for item in client.list_objects(bucket, recursive=True)}
