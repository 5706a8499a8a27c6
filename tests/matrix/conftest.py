"""The stores of `make matrix`: each is started once for the run and measured, and every test runs on each of them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from dev.matrix import DEFAULT, STORES
from dev.store import StoreError, free_port
from dev.stores import RunningStore, settings_for
from storage.measuring.conformance import MAX_COVER_BYTES
from storage.measuring.flow import Flow
from storage.s3.abilities import Abilities
from support.flows import serve_flow
from support.store import Bucket, measure

Measured = dict[str, tuple[dict[str, str], dict[str, Any]]]
"""Settings and abilities of each store by its name."""

MEASURED = pytest.StashKey[Measured]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--stores`, the names of the stores to run on."""
    parser.addoption("--stores", default=",".join(DEFAULT), help="stores of the matrix to run on, comma-separated")


def selected(config: pytest.Config) -> list[str]:
    """Return the names of the stores to run on. Raises UsageError for an unknown one."""
    names = str(config.getoption("--stores")).replace(",", " ").split()
    if unknown := set(names) - STORES.keys():
        raise pytest.UsageError(f"No such store: {', '.join(sorted(unknown))}. There are {', '.join(STORES)}.")
    return names


def pytest_configure(config: pytest.Config) -> None:
    """Start the stores side by side, and measure them, in the process that distributes the tests."""
    if hasattr(config, "workerinput"):
        return
    folder = Path(tempfile.mkdtemp(prefix="loadbay-matrix-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    stores = {name: STORES[name].create(folder / name, free_port()) for name in selected(config)}
    for store in stores.values():
        config.add_cleanup(store.stop)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda store: store.start(), stores.values()))
    except StoreError as e:
        raise pytest.UsageError(str(e)) from e
    # One after another: a store that is busy with its start may answer too late.
    config.stash[MEASURED] = {name: measure_store(name, store) for name, store in stores.items()}


def measure_store(name: str, store: RunningStore) -> tuple[dict[str, str], dict[str, Any]]:
    """Return a store's settings and its abilities. Raises UsageError where it takes no presigned PUT."""
    settings = settings_for(store)
    abilities = measure(settings)
    if abilities.signatures is None:
        raise pytest.UsageError(f"{name} accepts no presigned PUT.")
    return settings, abilities.json()


def pytest_configure_node(node: Any) -> None:
    """Pass what is known of the stores to a worker of pytest-xdist."""
    node.workerinput["matrix"] = node.config.stash[MEASURED]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every selected store."""
    if "store_name" in metafunc.fixturenames:
        metafunc.parametrize("store_name", selected(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def store_name() -> str:
    """The store's name: each test runs on every selected one."""
    raise NotImplementedError


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest, store_name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The settings and the abilities of the store."""
    worker_input = getattr(request.config, "workerinput", None)
    stores: Measured = worker_input["matrix"] if worker_input else request.config.stash[MEASURED]
    return stores[store_name]


@pytest.fixture(scope="session")
def store_endpoint(measured: tuple[dict[str, str], dict[str, Any]]) -> str:
    """The endpoint of the store."""
    return measured[0]["S3_ENDPOINT"]


@pytest.fixture(scope="session")
def store_abilities(measured: tuple[dict[str, str], dict[str, Any]]) -> Abilities:
    """The abilities of the store, measured once."""
    return Abilities.from_json(measured[1])


@pytest.fixture
def api_key() -> str:
    """A full API key."""
    return secrets.token_urlsafe(32)


@pytest.fixture
def settings(
    settings: dict[str, Any], measured: tuple[dict[str, str], dict[str, Any]], store_abilities: Abilities, api_key: str
) -> dict[str, Any]:
    """Settings with a prefix of the test's own. A store that checks no signatures is accepted, since this is a test."""
    unsigned = str(int(store_abilities.signatures is False))
    own = {"S3_PREFIX": f"{uuid4()}/", "API_KEYS": api_key, "MAX_COVER_BYTES": str(MAX_COVER_BYTES)}
    return {**settings, **measured[0], **own, "ALLOW_UNSIGNED_STORE": unsigned}


@pytest.fixture
def bucket(settings: dict[str, Any]) -> Bucket:
    """The store's bucket, read through boto3."""
    return Bucket(settings["S3_ENDPOINT"], (settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"]))


@pytest.fixture
def flow(app: Flask, api_key: str, store_abilities: Abilities) -> Iterator[Flow]:
    """A client of the application, served on a port, that checks what comes of its requests."""
    with serve_flow(app, api_key, store_abilities) as flow:
        yield flow
