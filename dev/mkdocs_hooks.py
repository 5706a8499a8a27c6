"""MkDocs hooks: add the Markdown files of the repository's root to the site, and point links at them.

The pages in docs/ link to one another, and to files such as ../CONTRIBUTING.md, as they lie in the repository, so that
they also work on a forge. Here each such link is turned into one within the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ROOT_FILES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE.txt",
}
"""Files in the repository's root, and their places in the site."""
LINK = re.compile(r'(\]\(|src=")([^)":#]+)([#)"])')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the root."""
    for name, uri in ROOT_FILES.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's Markdown with its links to files of the repository turned into links within the site."""
    return rewrite_links(markdown, page.file.src_uri)


def rewrite_links(markdown: str, uri: str) -> str:
    """Return `markdown`, the page at `uri` in the site, with relative links that lead to the site's pages."""
    names = {place: name for name, place in ROOT_FILES.items()}
    folder = posixpath.dirname(names.get(uri, f"docs/{uri}"))

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        target = ROOT_FILES.get(target, target.removeprefix("docs/"))
        return f"{match[1]}{posixpath.relpath(target, posixpath.dirname(uri) or '.')}{match[3]}"

    return LINK.sub(replace, markdown)
