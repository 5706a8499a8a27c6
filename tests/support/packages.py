"""Distributions that the tests build, and the environments that they install them in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UV = str(Path(sys.executable).with_name("uv"))


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist of the project at `source`, and return their paths."""
    command = (sys.executable, "-m", "hatchling", "build", "--directory", str(target))
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def create_environment(folder: Path, *requirements: str, python: str = sys.executable) -> Path:
    """Install requirements in a new virtual environment at `folder`, and return it. Options of uv may be among them."""
    # With this machine's own index and certificates, as a developer would install it.
    for command in (
        (UV, "venv", "--quiet", "--python", python, str(folder)),
        (UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder), *requirements),
    ):
        result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert result.returncode == 0, result.stdout
    return folder
