"""The page's checksums: their values, what is registered, and files that cannot be read."""

from __future__ import annotations

from base64 import b64encode

import pytest
from playwright.sync_api import expect

from support.sample_files import checksum, wav

BODIES = {f"{size} bytes": (bytes(range(256)) * (size // 256 + 1))[:size] for size in (1, 7, 8, 9, 255, 2**21 + 13)}


@pytest.mark.parametrize("name", BODIES)
def test_computes_the_checksum_of_a_file(service, visit, page, name):
    """The CRC-32C of a file is that of the service, whatever its length."""
    visit(service, service.open_session())
    script = """async (bytes) => {
        const { crc32c } = await import("/loadbay/checksum.js");
        const content = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
        return crc32c(new File([content], "a"), new AbortController().signal);
    }"""
    assert page.evaluate(script, b64encode(BODIES[name]).decode()) == checksum("crc32c", BODIES[name])


@pytest.mark.parametrize("size", [1, 22 * 2**20], ids=["whole", "in parts"])
def test_files_are_proven_by_their_checksum(service, visit, tmp_path, size):
    """The page declares a checksum for a file of any size, and the file is proven by it."""
    session_id = service.open_session()
    uploader = visit(service, session_id, part_size=str(5 * 2**20))
    path = tmp_path / "a.wav"
    path.write_bytes(wav() + bytes(size))
    uploader.choose(path)
    uploader.upload(1)
    expect(uploader.summary).to_contain_text("Done: 1 file received")
    (track,) = service.tracks(session_id)
    assert track["checksum_crc32c"] == checksum("crc32c", path.read_bytes())
    assert track["integrity"] == "crc32c"
