"""The service's signatures: JWS (RFC 7515) with Ed25519 (EdDSA, RFC 8037), and the public keys as a JWK set (RFC 7517).

The keys are those of RECEIPT_KEYS, of which the first signs, or else one that the migration has made.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from storage.service import Service


def sign(service: Service, kind: str, payload: Mapping[str, Any]) -> str:
    """Return a JSON object as a JWS in its compact serialization, with `kind` as its type (RFC 7515, section 3.1)."""
    # Imported here and below, as most processes sign no receipt.
    from Crypto.Signature import eddsa

    seed = _seeds(service)[0]
    header = {"alg": "EdDSA", "kid": public_jwk(seed)["kid"], "typ": kind}
    signed = f"{_base64url(orjson.dumps(header))}.{_base64url(orjson.dumps(payload))}"
    signature = eddsa.new(_private_key(seed), "rfc8032").sign(signed.encode())
    return f"{signed}.{_base64url(signature)}"


def jwk_set(service: Service) -> dict[str, list[dict[str, str]]]:
    """Return the public keys as a JWK set (RFC 7517)."""
    return {"keys": [public_jwk(seed) for seed in _seeds(service)]}


def public_jwk(seed: bytes) -> dict[str, str]:
    """Return the public key of a seed as a JWK (RFC 8037); its id is its thumbprint (RFC 7638)."""
    x = _base64url(_private_key(seed).public_key().export_key(format="raw"))
    required = {"crv": "Ed25519", "kty": "OKP", "x": x}
    thumbprint = _base64url(sha256(orjson.dumps(required, option=orjson.OPT_SORT_KEYS)).digest())
    return {**required, "kid": thumbprint, "use": "sig", "alg": "EdDSA"}


def _seeds(service: Service) -> list[bytes]:
    if service.settings.receipt_keys:
        return [b64decode(key) for key in service.settings.receipt_keys]
    return [b64decode(service.receipt_seed)]


def _private_key(seed: bytes) -> Any:
    from Crypto.PublicKey import ECC

    return ECC.construct(curve="Ed25519", seed=seed)


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
