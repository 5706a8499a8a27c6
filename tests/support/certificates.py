"""Self-signed certificates, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def self_signed(folder: Path, *names: str) -> Path:
    """Return a file with a certificate for these names (as `DNS:a.example` or `IP:127.0.0.1`) and its key."""
    bundle = folder / "both.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext"
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    subject = f"subjectAltName={','.join(names)}"
    subprocess.run(["openssl", *command.split(), subject, *files], check=True, capture_output=True)
    bundle.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return bundle


def server_context(certificate: Path) -> ssl.SSLContext:
    """Return a TLS context that serves the certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context
