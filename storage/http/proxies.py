"""Outgoing requests through the proxies that the environment names: HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

Their form is that of curl: https://curl.se/docs/manpage.html#ENVIRONMENT
"""

from __future__ import annotations

from threading import Lock
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3

from storage.http import waiting


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for requests to `url`, or None where there is to be none."""
    parts, proxies = urlsplit(url), getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class ProxiedPoolManager(urllib3.PoolManager):
    """A pool whose requests go through the environment's proxy for their URL."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._options = options
        self._proxy_urls: dict[str, str | None] = {}
        self._proxies: dict[str, urllib3.ProxyManager] = {}
        self._lock = Lock()

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request as PoolManager does, through a proxy where one is named."""
        waiting.announce()
        proxy = self.proxy_for(url)
        if proxy is None:
            return super().urlopen(method, url, redirect, **kw)
        return self._manager(proxy).urlopen(method, url, redirect, **kw)

    def proxy_for(self, url: str) -> str | None:
        """Return the URL of the proxy for requests to `url`, or None; the environment is read once for each host."""
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._proxy_urls:
            self._proxy_urls[origin] = proxy_for(url)
        return self._proxy_urls[origin]

    def clear(self) -> None:
        """Close all connections, also those to proxies."""
        super().clear()
        for manager in self._proxies.values():
            manager.clear()

    def _manager(self, proxy: str) -> urllib3.ProxyManager:
        with self._lock:
            if proxy not in self._proxies:
                parts = urlsplit(proxy)
                login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
                headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
                address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
                self._proxies[proxy] = urllib3.ProxyManager(address, proxy_headers=headers, **self._options)
            return self._proxies[proxy]
