"""The ablation: every trick of the benchmark can be left out, and the responses keep their shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.ablate import ROUTES
from bench.tricks import ALL_TRICKS, TRICKS, WRITER_TRICKS
from support.processes import ROOT

pytestmark = pytest.mark.sqlite


def shapes(name, tmp_path, settings):
    """Return the keys and types of a response of each route without this trick, in a process of its own."""
    url = f"sqlite:///{tmp_path / (name or 'complete')}.db"
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / f"metrics-{name}")}
    commands = "".join(f"shape {route}\ncost {route} 1\n" for route in ROUTES)
    process = subprocess.run(
        [sys.executable, "-m", "bench.ablated", name, json.dumps({**settings, "DATABASE_URL": url})],
        cwd=ROOT, env=env, input=commands, check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return [json.loads(line) for line in process.stdout.splitlines()[::2]]


@pytest.fixture(scope="module")
def complete_shapes(tmp_path_factory):
    """Return the shapes of the responses with all tricks."""
    return shapes("", tmp_path_factory.mktemp("complete"), {})


@pytest.mark.parametrize("name", ALL_TRICKS)
def test_responses_have_the_same_shape_without_a_trick(name, tmp_path, complete_shapes):
    """A plain version does the same as the trick, so that the comparison of their costs is fair."""
    assert shapes(name, tmp_path, ALL_TRICKS[name].settings) == complete_shapes


def test_each_trick_is_in_one_table():
    """No name stands for two tricks."""
    assert len(ALL_TRICKS) == len(TRICKS) + len(WRITER_TRICKS)
