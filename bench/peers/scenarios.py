"""The ways of uploading whole files: this service's, those of its peers, and the store alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..server import COLLECTION
from . import alone, clients
from .sending import MIB
from .servers import Loadbay, Streaming, TusFile, TusS3

CLIENTS = 8


class Scenario(NamedTuple):
    """A way of uploading: its server, None for the store alone, and its client.

    `sign` returns what a client of the store alone gets for its share. An item is a file, or an album of `tracks`; for
    each of these an object of each of `sizes` arrives under `prefix`.
    """

    title: str
    server: type[Any] | None
    client: clients.Client
    sizes: tuple[int, ...] = (MIB,)
    prefix: str = ""
    sign: Callable[[alone.Signer, Sequence[int]], Any] | None = None
    tracks: int = 1

    def count(self, items: int) -> int:
        """Return the number of files that have as many bytes as so many of 1 MiB, alike for all clients."""
        share = max(1, round(items * MIB / self.sizes[0] / CLIENTS))
        return items if self.sizes[0] == MIB else share * CLIENTS


class Mode(NamedTuple):
    """A way of uploading to this service, with the scenarios that it is compared with."""

    title: str
    ours: Scenario
    alone: Scenario
    flask: Scenario


ONE, LARGE = (MIB,), (clients.LARGE_FILE,)
FLASK = Scenario("Flask route to the store", Streaming, clients.flask)
FLASK_LARGE = Scenario("Flask route to the store, 20 MiB", Streaming, clients.flask_large, LARGE)
COPIES = Scenario(
    "store alone, plain PUTs, reads, copies", None, alone.put_and_copy, ONE, COLLECTION, alone.sign_copies
)
"""What the store needs for the verification of plain PUTs, too: a floor for whoever copies."""

MODES = {
    "once": Mode(
        "write-once PUTs",
        Scenario("Loadbay, write-once PUTs", Loadbay, clients.loadbay_once, ONE, COLLECTION),
        Scenario("store alone, write-once PUTs", None, alone.put_once, ONE, COLLECTION, alone.sign_once),
        FLASK,
    ),
    "plain": Mode(
        "plain PUTs",
        Scenario("Loadbay, plain PUTs", Loadbay, clients.loadbay_plain, ONE, COLLECTION),
        Scenario("store alone, plain PUTs", None, alone.put_plain, ONE, alone.STAGING, alone.sign_plain),
        FLASK,
    ),
    "parts": Mode(
        "parts",
        Scenario("Loadbay, parts", Loadbay, clients.loadbay_parts, LARGE, COLLECTION),
        Scenario("store alone, parts", None, alone.put_parts, LARGE, COLLECTION, alone.sign_parts),
        FLASK_LARGE,
    ),
}
TUS = [Scenario("tus-node, S3 store", TusS3, clients.tus), Scenario("tus-node, file store", TusFile, clients.tus)]


def scenarios(modes: Sequence[str], isolated: bool) -> list[Scenario]:
    """Return the scenarios that these modes need, each once; with an isolated store those without peers."""
    selected = [MODES[name] for name in modes]
    result = [scenario for mode in selected for scenario in (mode.ours, mode.alone)]
    result += [COPIES] * ("plain" in modes)
    if not isolated:
        result += [mode.flask for mode in selected] + TUS * ("once" in modes or "plain" in modes)
    return list(dict.fromkeys(result))
