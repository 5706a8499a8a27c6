"""The catalogs of the page's messages."""

from __future__ import annotations

import json
from pathlib import Path

from support.processes import ROOT

CATALOGS = sorted((ROOT / "static" / "messages").glob("*.js"))


def catalog(path: Path) -> dict[str, str | dict[str, str]]:
    """Read a catalog: JSON behind `export default`."""
    return dict(json.loads(path.read_text().removeprefix("export default ")))
