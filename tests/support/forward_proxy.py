"""A forward proxy, as companies have one: it tunnels (CONNECT) and forwards requests, and notes where to."""

from __future__ import annotations

import select
import socket
from base64 import b64encode
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LOGIN = "user:p@ss word"
HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "connection", "transfer-encoding")


class ForwardProxy:
    """A proxy that demands LOGIN, if `login` is set. `targets` has the hosts and ports that it was asked for."""

    def __init__(self, login: str = "", refuses: int = 0):
        self.login, self.refuses = login, refuses
        self.targets: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def is_allowed(self) -> bool:
                """Check the login, and answer where it is wrong."""
                expected = f"Basic {b64encode(proxy.login.encode()).decode()}"
                if proxy.login and self.headers.get("Proxy-Authorization") != expected:
                    self.send_error(407)
                elif proxy.refuses:
                    self.send_error(proxy.refuses)
                else:
                    return True
                return False

            def do_CONNECT(self) -> None:
                """Connect both sides until one closes."""
                if not self.is_allowed():
                    return
                proxy.targets.append(self.path)
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as other:
                    self.send_response_only(200)
                    self.end_headers()
                    self.relay(other)
                self.close_connection = True

            def relay(self, other: socket.socket) -> None:
                """Copy bytes in both directions."""
                opposite = {self.connection: other, other: self.connection}
                while True:
                    for ready in select.select(list(opposite), [], [], 10)[0]:
                        if not (chunk := ready.recv(65_536)):
                            return
                        opposite[ready].sendall(chunk)

            def forward(self) -> None:
                """Send a request on, as its absolute URL says."""
                if not self.is_allowed():
                    return
                parts = urlsplit(self.path)
                proxy.targets.append(parts.netloc)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                connection = HTTPConnection(parts.netloc, timeout=10)
                connection.request(self.command, parts._replace(scheme="", netloc="").geturl(), body or None, headers)
                response = connection.getresponse()
                content = response.read()
                self.send_response_only(response.status)
                for name, value in response.headers.items():
                    if name.lower() not in (*HOP_BY_HOP, "content-length"):
                        self.send_header(name, value)
                length = response.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
