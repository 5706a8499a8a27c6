"""AWS's services that give out credentials, played on a port of this machine: STS, SSO, containers and instances."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from support.fault_proxy import running

CONTAINER_TOKEN = "a-container-token-0123456789"
WEB_IDENTITY = "a-web-identity-token-0123456789"
ROLE = "arn:aws:iam::111122223333:role/uploads"
STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{AccessKeyId}</AccessKeyId>
<SecretAccessKey>{SecretAccessKey}</SecretAccessKey><SessionToken>{Token}</SessionToken>
<Expiration>{Expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def iso(seconds: float) -> str:
    """Return a time as AWS writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class AWSServices:
    """The services. `lifetime` is that of the credentials in seconds, `status` that of the responses.

    `lookups` has the kinds of credentials that were given out, in order; the key ids are numbered as they are.
    """

    def __init__(self) -> None:
        self.lifetime, self.status, self.lookups = 3600.0, 200, list[str]()
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def answer(self) -> None:
                """Respond with what the service that is asked gives out."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                status, content = services.respond(self, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "60")
                self.end_headers()
                self.wfile.write(content.encode())

            do_GET = do_PUT = do_POST = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def credentials(self, kind: str) -> dict[str, str]:
        """Give out credentials."""
        self.lookups.append(kind)
        number = len(self.lookups)
        return {
            "Code": "Success", "AccessKeyId": f"{kind}-{number}", "SecretAccessKey": f"secret-of-{kind}-{number}",
            "Token": f"token-of-{kind}-{number}", "Expiration": iso(time.time() + self.lifetime),
        }  # fmt: skip

    def respond(self, request: BaseHTTPRequestHandler, body: str) -> tuple[int, str]:
        """Return status and body of a response."""
        url = urlsplit(request.path)
        if self.status != 200:
            return self.status, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        match url.path:
            case "/container":
                allowed = request.headers.get("Authorization") == CONTAINER_TOKEN
                return (200, json.dumps(self.credentials("container"))) if allowed else (401, "{}")
            case "/latest/api/token":
                return 200, "an-instance-token-0123456789"
            case "/latest/meta-data/iam/security-credentials/":
                return 200, "uploads"
            case "/latest/meta-data/iam/security-credentials/uploads":
                return 200, json.dumps(self.credentials("instance"))
            case "/federation/credentials":
                issued = self.credentials("sso")
                keys = {"accessKeyId": "AccessKeyId", "secretAccessKey": "SecretAccessKey", "sessionToken": "Token"}
                role = {name: issued[key] for name, key in keys.items()}
                return 200, json.dumps(
                    {"roleCredentials": {**role, "expiration": int((time.time() + self.lifetime) * 1000)}}
                )
            case "/":
                # minio sends the parameters in the URL.
                values = {**parse_qs(url.query), **parse_qs(body)}
                allowed = (values["WebIdentityToken"], values["RoleArn"]) == ([WEB_IDENTITY], [ROLE])
                return (200, STS.format(**self.credentials("web"))) if allowed else (403, "<ErrorResponse/>")
        return 404, ""


@contextmanager
def aws_services() -> Iterator[AWSServices]:
    """Run the services."""
    with running(AWSServices()) as services:
        yield services
