"""S3 servers from Debian, which CI has no time for: `make matrix STORES=swift`."""

from __future__ import annotations

import getpass
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import ClassVar

from dev.store import free_port
from dev.stores import SECRET_KEY, MatrixStore

KINDS = ("account", "container", "object")
"""The servers of Swift behind its proxy."""


class DebianStore(MatrixStore):
    """A store whose version is that of an installed package."""

    @classmethod
    def version(cls) -> str:
        """Return the version of the installed package, without Debian's own part."""
        query = ["dpkg-query", "--show", "--showformat=${Version}", cls.package]
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        return done.stdout.partition("-")[0].partition("+")[0]


class Swift(DebianStore):
    """OpenStack Swift with its middleware `s3api`: a proxy, and three servers with one device."""

    program, package = "swift-proxy-server", "swift-proxy"
    install = "apt-get install swift swift-proxy swift-account swift-container swift-object memcached"
    access_key: str = "test:tester"
    pipeline: ClassVar[str] = (
        "catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes "
        "symlink proxy-server"
    )

    def __init__(self, folder: Path, port: int):
        super().__init__(folder, port)
        self.ports, self.cache_port = {kind: free_port() for kind in KINDS}, free_port()

    def prepare(self) -> None:
        """Write configuration and rings."""
        (self.folder / "devices" / "d1").mkdir(parents=True, exist_ok=True)
        self._write("swift", {"swift-hash": {"swift_hash_path_suffix": "matrix"}})
        self._write("proxy-server", self._proxy())
        for kind, port in self.ports.items():
            self._write(f"{kind}-server", self._server(kind, port))
            self._build_ring(kind, port)

    def commands(self) -> list[list[str]]:
        """Return the command lines of all servers."""
        names = ("proxy-server", *(f"{kind}-server" for kind in KINDS))
        servers = [[self.executable(f"swift-{name}"), str(self.folder / f"{name}.conf"), "--verbose"] for name in names]
        cache = ["-l", "127.0.0.1", "-p", str(self.cache_port), "-u", getpass.getuser()]
        return [[self.executable("memcached"), *cache], *servers]

    def _write(self, name: str, sections: dict[str, dict[str, str]]) -> None:
        parser = ConfigParser(interpolation=None)
        parser.read_dict(sections)
        with (self.folder / f"{name}.conf").open("w") as file:
            parser.write(file)

    def _common(self, port: int) -> dict[str, str]:
        folder = str(self.folder)
        address = {"bind_ip": "127.0.0.1", "bind_port": str(port), "workers": "0"}
        return {**address, "user": getpass.getuser(), "swift_dir": folder}

    def _proxy(self) -> dict[str, dict[str, str]]:
        filters = {f"filter:{name}": {"use": f"egg:swift#{name}"} for name in self.pipeline.split()[:-1]}
        account = self.access_key.replace(":", "_")
        filters["filter:tempauth"][f"user_{account}"] = f"{SECRET_KEY} .admin"
        filters["filter:cache"]["use"] = "egg:swift#memcache"
        filters["filter:cache"]["memcache_servers"] = f"127.0.0.1:{self.cache_port}"
        filters["filter:s3api"] |= {"s3_acl": "false", "location": "us-east-1"}
        # Parts of 5 MiB, and no waiting for another server's clock.
        filters["filter:slo"] |= {"min_segment_size": "1"}
        return {
            "DEFAULT": self._common(self.port),
            "pipeline:main": {"pipeline": self.pipeline},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
            **filters,
        }

    def _server(self, kind: str, port: int) -> dict[str, dict[str, str]]:
        devices = {"devices": str(self.folder / "devices"), "mount_check": "false"}
        return {
            "DEFAULT": {**self._common(port), **devices},
            "pipeline:main": {"pipeline": f"{kind}-server"},
            f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
        }

    def _build_ring(self, kind: str, port: int) -> None:
        builder = [self.executable("swift-ring-builder"), f"{kind}.builder"]
        for arguments in (["create", "4", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
            subprocess.run([*builder, *arguments], cwd=self.folder, check=True, capture_output=True)
