"""The npm package of the component: made by one command, used by a React page, with types."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.helpers import Uploader, expect_received, file_payload
from support.processes import ROOT
from support.sample_files import wav
from web.responses import VERSION

TOOLS = Path(__file__).parent
MODULES = TOOLS / "node_modules"
# What a site of a label has: the element among React's own, with properties, events, a ref and a slot.
PAGE = """
import { useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import "loadbay-uploader";
import type { LoadbayUploader, Messages } from "loadbay-uploader/react";

const messages: Messages = { choose_files: "Pick your masters" };

function Page({ server, session }: { server: string; session: string }) {
  const uploader = useRef<LoadbayUploader>(null);
  const [log, setLog] = useState<string[]>([]);
  const add = (line: string) => setLog((lines) => [...lines, line]);
  return (
    <>
      <loadbay-uploader
        ref={uploader} server={server} session={session} retryDelay={50} messages={messages}
        onfile-added={(event) => add(`added ${event.detail.file_name} ${event.detail.size}`)}
        onfile-uploaded={(event) => add(`uploaded ${event.detail.track.file_name}`)}
        onsession-complete={(event) => add(`complete ${event.detail.tracks.length}`)}
      >
        <strong slot="heading">Bring your album</strong>
      </loadbay-uploader>
      <button onClick={() => uploader.current?.start()}>Go</button>
      <ul id="log">{log.map((line) => <li key={line}>{line}</li>)}</ul>
    </>
  );
}

const { server, session } = Object.fromEntries(new URLSearchParams(location.search));
createRoot(document.querySelector("main")!).render(<Page server={server} session={session} />);
"""
# Each line is what the implementation must have as the package's types say.
CONTRACT = """
import { LoadbayUploader as Implementation } from "STATIC/uploader.js";
import type { LoadbayUploader } from "loadbay-uploader";
const element: LoadbayUploader = new Implementation();
// @ts-expect-error There is no such property.
element.sessions = "";
element.addEventListener("file-failed", (event) => event.detail.code.toUpperCase());
// @ts-expect-error There is no such event detail.
element.addEventListener("file-failed", (event) => event.detail.kode);
document.querySelector("loadbay-uploader")?.clear();
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in its node_modules, as npm installs the tarball."""
    if not (MODULES / "react").exists():
        pytest.skip("React is not installed: 'npm ci --prefix tests/browser' (Node 20 or later).")
    folder = tmp_path_factory.mktemp("project")
    subprocess.run(["node", TOOLS / "package.mjs", folder / "dist"], check=True, capture_output=True)
    (tarball,) = (folder / "dist").iterdir()
    assert tarball.name == f"loadbay-uploader-{VERSION}.tgz"
    modules = folder / "node_modules"
    modules.mkdir()
    with tarfile.open(tarball) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "loadbay-uploader")
    for name in ("react", "react-dom", "scheduler", "csstype", "@types"):
        (modules / name).symlink_to(MODULES / name)
    return folder


@pytest.fixture(scope="module")
def site(project: Path) -> Iterator[str]:
    """The origin of a React page that esbuild has bundled with the package."""
    (project / "page.tsx").write_text(PAGE)
    (project / "site").mkdir()
    bundle = ["--bundle", "--splitting", "--format=esm", "--jsx=automatic", "--minify", "--outdir=site"]
    subprocess.run([MODULES / ".bin" / "esbuild", "page.tsx", *bundle], cwd=project, check=True, capture_output=True)
    (project / "site" / "index.html").write_text(
        "<!doctype html><main></main><script type=module src=page.js></script>"
    )

    class Handler(SimpleHTTPRequestHandler):
        """A server without a log."""

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=project / "site")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_react_page_uploads_with_the_package(serve, page, bucket, site):
    """A React page sets properties, hears events, fills a slot, and calls a method; the upload arrives."""
    service = serve(CORS_ORIGINS=site)
    session_id = service.open_session()
    page.goto(f"{site}/?server={service.base}&session={session_id}")
    expect(page.get_by_role("button", name="Pick your masters")).to_be_visible()
    expect(page.get_by_text("Bring your album")).to_be_visible()
    uploader = Uploader(page)
    uploader.choose(file_payload("1 good.wav", wav()))
    expect(page.get_by_text(f"added 1 good.wav {len(wav())}")).to_be_visible()
    page.get_by_role("button", name="Go", exact=True).click()
    expect_received(uploader.row("1 good.wav"))
    expect(page.get_by_text("uploaded 1 good.wav")).to_be_visible()
    expect(page.get_by_text("complete 1")).to_be_visible()
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == wav()


@pytest.mark.parametrize("source", [PAGE, CONTRACT], ids=["page", "contract"])
def test_types_are_those_of_the_component(project, source):
    """TypeScript accepts the page, and the package's types are those of the implementation."""
    folder = project / f"types-{len(source)}"
    folder.mkdir()
    static = os.path.relpath(ROOT / "static", folder)
    (folder / "page.tsx").write_text(source.replace("STATIC", static))
    options = {
        "strict": True, "noEmit": True, "jsx": "react-jsx", "module": "ESNext", "moduleResolution": "bundler",
        "target": "ES2022", "lib": ["ES2024", "DOM"], "allowJs": True, "skipLibCheck": False, "types": [],
    }  # fmt: skip
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["page.tsx"]}))
    completed = subprocess.run(
        [MODULES / ".bin" / "tsc", "--project", folder], capture_output=True, text=True, check=False
    )
    assert completed.stdout == ""
