"""Build hook of the wheel (hatchling): nests the source under `loadbay/`, and prefixes its imports of itself.

The source keeps its top level (app.py, storage/, templates/, ...), whose names an installed package must not take: a
host application may have the same. https://hatch.pypa.io/latest/plugins/build-hook/reference/
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "loadbay"
FOLDERS = ("commands", "embedding", "migrations", "schemas", "static", "storage", "templates", "web")
FILES = {
    "app.py": "app.py",
    "wsgi.py": "wsgi.py",
    "gunicorn.conf.py": "gunicorn_conf.py",
    "dev/package_init.py": "__init__.py",
}
"""The files beside the folders, and their names in the package."""
NAMES = "app|wsgi|" + "|".join(FOLDERS)
STRING_REFERENCE = re.compile(rf"({NAMES})(\.\w+)+(:\w+)?")


class NestingHook(BuildHookInterface[Any]):
    """Adds the nested files to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the package to a temporary folder, which the wheel includes. Raises ValueError for an editable one."""
        if version == "editable":
            raise ValueError("Loadbay cannot be installed as editable: run it from the checkout, or install the wheel.")
        self.folder = Path(tempfile.mkdtemp(prefix="loadbay-wheel-"))
        build_nested(Path(self.root), self.folder / PACKAGE)
        build_data["force_include"][str(self.folder / PACKAGE)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self.folder)


def build_nested(source: Path, target: Path) -> None:
    """Write the package `target` from the tree `source`."""
    for path, name in source_files(source):
        nested = target / name
        nested.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            nested.write_text(prefix_imports(path.read_text("utf-8"), source), "utf-8")
        else:
            shutil.copyfile(path, nested)
    # https://typing.python.org/en/latest/spec/distributing.html
    (target / "py.typed").touch()


def source_files(source: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of the package, and its path in it."""
    for name, nested in FILES.items():
        yield source / name, nested
    for folder in FOLDERS:
        for path in sorted((source / folder).rglob("*")):
            relative = path.relative_to(source)
            # Neither bytecode nor what editors and systems leave, such as .DS_Store.
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in relative.parts):
                yield path, relative.as_posix()


def prefix_imports(text: str, source: Path) -> str:
    """Return a module's text with `loadbay.` before our modules, in imports and in strings that name one of them."""
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            _replace(lines, node, rf"from ({NAMES})\b", rf"from {PACKAGE}.\1")
        elif isinstance(node, ast.Import):
            _prefix_import(lines, node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _names_a_module(node.value, source):
            _replace(lines, node, rf"(['\"])({NAMES})\.", rf"\1{PACKAGE}.\2.")
    return "".join(lines)


def _prefix_import(lines: list[str], node: ast.Import) -> None:
    """Turn `import storage` into `from loadbay import storage`. Raises ValueError for what binds another name."""
    ours = [item.name for item in node.names if re.match(rf"({NAMES})\b", item.name)]
    if ours and (len(node.names) > 1 or "." in ours[0]):
        raise ValueError(f"Line {node.lineno}: write 'from package import module', each on a line of its own: {ours}")
    if ours:
        _replace(lines, node, rf"import ({NAMES})\b", rf"from {PACKAGE} import \1")


def _names_a_module(value: str, source: Path) -> bool:
    """Return whether a string is the dotted path of one of our modules, or one with a name in it after a colon."""
    if not STRING_REFERENCE.fullmatch(value):
        return False
    path = source.joinpath(*value.partition(":")[0].split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _replace(lines: list[str], node: ast.stmt | ast.expr, pattern: str, replacement: str) -> None:
    """Replace a pattern at the place of a node. The offsets of the syntax tree are in UTF-8 bytes."""
    line = lines[node.lineno - 1].encode()
    before, after = line[: node.col_offset].decode(), line[node.col_offset :].decode()
    lines[node.lineno - 1] = before + re.sub(f"^{pattern}", replacement, after)
