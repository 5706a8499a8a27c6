"""S3 servers from Debian, which CI has no time for: `make matrix STORES="ceph swift"`."""

from __future__ import annotations

import getpass
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from dev.store import StoreError, free_port
from dev.stores import SECRET_KEY, START_TIMEOUT, MatrixStore

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

    def _write(self, name: str, sections: dict[str, dict[str, str]]) -> None:
        parser = ConfigParser(interpolation=None)
        parser.read_dict(sections)
        with (self.folder / f"{name}.conf").open("w") as file:
            parser.write(file)


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


class Ceph(DebianStore):
    """Ceph's object gateway on a cluster of one monitor and one OSD, which keeps objects in memory."""

    program = package = "radosgw"
    install = "apt-get install ceph-mon ceph-osd radosgw"

    def __init__(self, folder: Path, port: int):
        super().__init__(folder, port)
        self.monitor = f"[v2:127.0.0.1:{free_port()}]"
        self.cluster_id, self.osd_id = str(uuid4()), str(uuid4())

    def prepare(self) -> None:
        """Start the cluster, and create the user. Raises StoreError."""
        (self.folder / "osd").mkdir(exist_ok=True)
        self._write("ceph", {"global": self._options()})
        for program in ("monmaptool", "ceph-mon", "ceph", "ceph-osd", "radosgw-admin", self.program):
            self.executable(program)
        self._call("monmaptool", "--create", "--fsid", self.cluster_id, "--addv", "a", self.monitor, "monmap")
        self._call("ceph-mon", *self._config, "--mkfs", "-i", "a", "--monmap", "monmap")
        self.run([[self.executable("ceph-mon"), *self._config, "-f", "-i", "a"]])
        self._call("ceph", *self._config, "osd", "new", self.osd_id, "0")
        self._call("ceph-osd", *self._config, "-i", "0", "--mkfs", "--osd-uuid", self.osd_id)
        self.run([[self.executable("ceph-osd"), *self._config, "-f", "-i", "0"]])
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        self._call("radosgw-admin", *self._config, "user", "create", "--uid=matrix", "--display-name=matrix", *keys)

    def arguments(self) -> list[str]:
        """Return the arguments of the gateway."""
        frontend = f"beast endpoint=127.0.0.1:{self.port}"
        return [*self._config, "-f", "-n", "client.rgw", "--rgw-frontends", frontend]

    @property
    def _config(self) -> list[str]:
        return ["-c", str(self.folder / "ceph.conf")]

    def _call(self, program: str, *arguments: str) -> None:
        """Run a command that ends. Raises StoreError."""
        command = [self.executable(program), *arguments]
        try:
            subprocess.run(
                command, env=self.environment(), cwd=self.folder, check=True, capture_output=True, timeout=START_TIMEOUT
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            logged = self.log.read_text(errors="replace")[-1000:] if self.log.exists() else ""
            output = (e.stderr or b"").decode(errors="replace")[-1000:]
            raise StoreError(f"{program} fails: {output} {logged}") from e

    def _options(self) -> dict[str, str]:
        folder = str(self.folder)
        methods = {f"auth {kind} required": "none" for kind in ("cluster", "service", "client")}
        # One copy of everything, on the one OSD.
        pools = {"size": "1", "min size": "1", "pg num": "1", "pgp num": "1", "pg autoscale mode": "off"}
        return {
            "fsid": self.cluster_id,
            "mon host": self.monitor,
            "public addr": "127.0.0.1",
            "cluster addr": "127.0.0.1",
            "ms bind msgr1": "false",
            **methods,
            # The gateway's default is an encrypted connection, which needs keys.
            "ms mon client mode": "crc",
            **{f"osd pool default {name}": value for name, value in pools.items()},
            "osd crush chooseleaf type": "0",
            "osd objectstore": "memstore",
            "memstore device bytes": str(4 << 30),
            # A disk that others have filled is none of its business.
            "mon data avail crit": "1",
            "mon data": f"{folder}/mon",
            "osd data": f"{folder}/osd",
            "run dir": folder,
            "admin socket": "",
            "log file": "",
            "log to stderr": "true",
        }
