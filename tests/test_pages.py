"""GET /, GET /u/:upload_session_id and GET /loadbay/..., with their headers. For their behavior, see browser/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from app import create_app, loadbay
from dev.store import free_port
from support.api import COLLECTION, new_session
from support.store import ADMIN
from web.responses import VERSION

pytestmark = pytest.mark.sqlite

STATIC = Path(__file__).resolve().parent.parent / "static"
# The built ones are those of test_assets.py.
SOURCES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*.*") if "built" not in path.parts)


@pytest.fixture
def session_id(client):
    """The id of an open session."""
    return new_session(client)["upload_session_id"]


def test_upload_page_allows_only_this_service_and_the_store(client, session_id, settings):
    """The page of a session has the component; its policy allows this service and the store only."""
    page = client.get(f"/u/{session_id}")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert f'<loadbay-uploader session="{session_id}" finish>' in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob: data:",
        "media-src": "blob:",
        "connect-src": f"'self' {settings['S3_ENDPOINT']}", "frame-ancestors": "'none'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"


def test_policy_has_the_public_endpoint(make_client):
    """The policy names the store's public endpoint, at which browsers reach it."""
    client = make_client(S3_PUBLIC_ENDPOINT="https://s3.example.com", S3_ADDRESSING="virtual", CREATE_MISSING="0")
    assert "connect-src 'self';" in client.get("/").headers["Content-Security-Policy"]
    client = make_client(S3_PUBLIC_ENDPOINT="https://s3.example.com", S3_ADDRESSING="virtual")
    page = client.get(f"/u/{new_session(client)['upload_session_id']}")
    assert "connect-src 'self' https://tracks.s3.example.com;" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("metadata", "title"),
    [
        ({"batch_name": "Summer 2024"}, "Summer 2024"),
        ({"batch_name": "<script>alert(1)</script>"}, "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ({"batch_name": 7}, "Send your tracks"),
        ({"batch_name": "  "}, "Send your tracks"),
        (None, "Send your tracks"),
    ],
)
def test_title_is_the_batch_name(client, metadata, title):
    """The page's title is the session's batch_name, if it is a non-empty text."""
    page = client.get(f"/u/{new_session(client, metadata=metadata)['upload_session_id']}")
    assert re.search(rf"<h1[^>]*>{re.escape(title)}</h1>", page.text)
    assert f"<title>{title}</title>" in page.text


@pytest.mark.parametrize(
    ("page", "languages", "language", "text"),
    [
        (None, "de-AT, en;q=0.5", "de", "direkt in den Speicher"),
        (None, "zh-TW, ar;q=0.5", "ar", "أرسل مقاطعك الصوتية"),
        ({"language": "fr"}, "de", "fr", "Envoyez vos morceaux"),
        (None, "fi", "en", "Send your tracks"),
        (None, "*, ;q=x, ...", "en", "Send your tracks"),
    ],
)
def test_page_is_in_the_language_of_session_or_browser(client, page, languages, language, text):
    """The page has the session's language, or else the first of the browser's that there is."""
    session_id = new_session(client, **({"page": page} if page else {}))["upload_session_id"]
    for path, expected in ((f"/u/{session_id}", text), ("/u/cut", None)):
        response = client.get(path, headers={"Accept-Language": languages})
        direction = "rtl" if language == "ar" else "ltr"
        if page is None or expected:
            assert f'<html lang="{language}" dir="{direction}">' in response.text
        assert expected is None or expected in response.text


@pytest.mark.parametrize("session_id", [COLLECTION, "cut", "<script>alert(1)", "a" * 1000])
def test_unknown_link_is_a_page(client, session_id):
    """An unknown session's page is an HTML 404 that does not echo the link."""
    page = client.get(f"/u/{session_id}?{session_id}")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "This link is not valid" in page.text
    assert session_id not in page.text
    assert "<script" not in page.text


def test_unavailable_database_is_a_page(make_client):
    """Without the database, the page is a 503 that tells to come back later."""
    client = make_client(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing", CREATE_MISSING="0")
    page = client.get(f"/u/{COLLECTION}")
    assert (page.status_code, page.mimetype) == (503, "text/html")
    assert "Files received so far are safe" in page.text
    assert int(page.headers["Retry-After"]) > 0


def test_index_shows_the_status_of_an_open_service(client):
    """On an open service, the index shows database and store, a button, and a link to the API reference."""
    page = client.get("/")
    assert page.status_code == 200
    assert re.findall(r'class="name">(\w+)</span> ([\w ]+)</li>', page.text) == [
        ("Database", "OK"),
        ("Store", "OK"),
    ]
    assert '<button type="button" class="primary" id="open" data-base="/">' in page.text
    assert 'href="/docs"' in page.text
    assert f"Loadbay {VERSION}" in page.text


def test_index_shows_failures(make_client, make_database):
    """The index reports failures of store and database, and points to `flask doctor`."""
    unreachable = {"S3_ENDPOINT": f"http://127.0.0.1:{free_port()}", "DATABASE_URL": make_database(empty=True)}
    page = make_client(**unreachable, CREATE_MISSING="0").get("/")
    assert page.status_code == 200
    assert "The object store is unreachable." in page.text
    assert "The database is unreachable." in page.text
    assert "flask --app app doctor" in page.text
    assert "OK" not in page.text
    assert "The bucket does not exist." in make_client(S3_BUCKET="not-there", CREATE_MISSING="0", **ADMIN).get("/").text


def test_index_of_a_closed_service_asks_for_a_key(make_client):
    """On a closed service, the index asks for a full key, says the version, and nothing about database and store."""
    page = make_client(ALLOW_ANONYMOUS="0").get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert f"Loadbay {VERSION}" in page.text
    assert re.findall(r"<input[^>]*>", page.text) == [
        '<input id="key" type="password" autocomplete="off" autocapitalize="off" spellcheck="false" required>'
    ]
    assert "connect-src 'self';" in page.headers["Content-Security-Policy"]
    assert "form-action 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    for detail in ("Store", "Database", "OK", "Set-Cookie"):
        assert detail not in page.text + str(page.headers)


def test_index_without_the_owners_page_shows_the_version_only(make_client):
    """With OWNER_PAGE=0, the index of a closed service shows the name and version only."""
    page = make_client(ALLOW_ANONYMOUS="0", OWNER_PAGE="0").get("/")
    assert page.status_code == 200
    assert f"Loadbay {VERSION}" in page.text
    for detail in ("<button", "<script", "<a ", "<form", "<input", "Store", "Database", "OK"):
        assert detail not in page.text
    assert "<form" in make_client().get("/").text
    assert "<form" not in make_client(OWNER_PAGE="0").get("/").text


@pytest.mark.parametrize("name", SOURCES)
def test_static_files_are_public_and_revalidated(make_client, name):
    """Every static file is available to any origin, and revalidated by ETag."""
    client = make_client(BUILT_ASSETS="0")
    with client.get(f"/loadbay/{name}") as response:
        assert (response.status_code, response.data) == (200, (STATIC / name).read_bytes())
        headers = response.headers
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert kinds[Path(name).suffix] in headers["Content-Type"]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cache-Control"] == "public, no-cache"
    with client.get(f"/loadbay/{name}", headers={"If-None-Match": headers["ETag"]}) as again:
        assert (again.status_code, again.data) == (304, b"")


def test_only_static_files_are_public(client, session_id):
    """Pages and API responses follow CORS_ORIGINS."""
    for path in ("/", f"/u/{session_id}", f"/v1/upload_session/{session_id}"):
        assert "Access-Control-Allow-Origin" not in client.get(path, headers={"Origin": "https://a.example"}).headers


def test_static_files_are_public_with_cors_origins_too(make_client):
    """Static files are available to origins in CORS_ORIGINS and to all others."""
    client = make_client(CORS_ORIGINS="https://a.example")
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", "*")):
        with client.get("/loadbay/api.js", headers={"Origin": origin}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == allowed
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "..%2fapp.py", ""])
def test_serves_no_files_outside_static(client, name):
    """Files outside of static/ are 404."""
    response = client.get(f"/loadbay/{name}")
    assert (response.status_code, response.json["code"]) == (404, "not_found")


@pytest.mark.parametrize("mount", ["application", "blueprint"])
def test_links_have_the_prefix(settings, mount):
    """Below a prefix, every link of a page has the prefix."""
    host = Flask("host")
    if mount == "blueprint":
        host.register_blueprint(loadbay, url_prefix="/uploads", config=settings)
        client = Client(host)
    else:
        client = Client(DispatcherMiddleware(host, {"/uploads": create_app(settings)}))
    with client.post("/uploads/v1/upload_session", json={"collection_id": COLLECTION}) as response:
        session_id = response.json["upload_session_id"]
    for path in ("/uploads/", f"/uploads/u/{session_id}", "/uploads/u/cut"):
        with client.get(path) as page:
            # "#": a link that the session's page has not, and may get.
            links = re.findall(r'(?:href|src|data-base)="([^"#]+)"', page.text)
        assert links
        assert all(link.startswith("/uploads/") for link in links)
        for link in links:
            with client.get(link) as linked:
                assert linked.status_code == 200, link


def test_pages_load_nothing_from_other_origins(client):
    """No script or style refers to another origin."""
    for path in map(STATIC.joinpath, SOURCES):
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|uploads\.example\.com)", text), path
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (STATIC / name).is_file()


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/v1/nothing"])
def test_every_response_has_the_version(client, path):
    """Every response has the version of the service, which is also the API document's."""
    assert client.get(path).headers["Loadbay-Version"] == VERSION == client.get("/openapi.json").json["info"]["version"]
