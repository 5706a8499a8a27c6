"""A client of an application, which checks what comes of its uploads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from storage.measuring.contract_client import ContractClient
from storage.measuring.flow import Flow
from storage.s3.abilities import Abilities
from support.api import service_of
from support.live_server import serve


@contextmanager
def serve_flow(app: Flask, api_key: str, abilities: Abilities) -> Iterator[Flow]:
    """Serve an application on a port, and yield a flow that expects what follows from `abilities`."""
    service = service_of(app)
    service.refresh_choices()
    with serve(app) as url:
        client = ContractClient(url, api_key)
        yield Flow(client, service.bucket, abilities, service.choices)
        client.close()
