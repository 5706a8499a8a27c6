"""Run `flask doctor --conformance` on the stores of the matrix, and record what it says for docs/stores.md.

`python -m dev.record_stores [NAME ...]`, then `python -m dev.docs`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dev.matrix import DEFAULT, STORES
from dev.store import StoreError, free_port
from dev.store_tables import RECORDS
from dev.stores import ROOT, RunningStore, settings_for


def record(name: str, folder: Path) -> dict[str, Any]:
    """Run the doctor on a store, and return its record. Raises StoreError, RuntimeError."""
    entry = STORES[name]
    store = entry.create(folder / name, free_port())
    store.start()
    try:
        measured = run_doctor(store, folder / f"{name}.db")
    finally:
        store.stop()
    return {"name": entry.title, "version": entry.version(), **measured}


def run_doctor(store: RunningStore, database: Path) -> dict[str, Any]:
    """Return what the doctor says of a store. Raises RuntimeError where a check fails."""
    settings = {**settings_for(store), "DATABASE_URL": f"sqlite:///{database}"}
    # Only a store that checks no signatures needs it, and the record says of which that is true.
    env = {**os.environ, **settings, "ALLOW_UNSIGNED_STORE": "1", "FLASK_SKIP_DOTENV": "1"}
    flask = [sys.executable, "-m", "flask", "--app", "app"]
    subprocess.run([*flask, "prepare"], cwd=ROOT, env=env, check=True, capture_output=True)
    command = [*flask, "doctor", "--conformance", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        failed = [line for line in lines if line.get("outcome") == "fail" and line["required"]]
        raise RuntimeError(f"The doctor fails at {store.endpoint}: {failed} {done.stderr[-2000:]}")
    measured: dict[str, Any] = lines[-1]["store"]
    return measured


def main() -> int:
    """Record the stores that are named, or those from PyPI, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="loadbay-stores-") as folder:
        for name in sys.argv[1:] or DEFAULT:
            try:
                content = record(name, Path(folder))
            except (StoreError, RuntimeError) as e:
                print(e, file=sys.stderr)
                return 1
            (RECORDS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
            print(f"Recorded {name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
