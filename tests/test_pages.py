"""GET /, GET /u/:upload_session_id and GET /static/...: what they say, and their headers. See browser/ for the rest."""

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
from web.responses import VERSION

STATIC = Path(__file__).resolve().parent.parent / "static"


@pytest.fixture
def session_id(client):
    """An open session."""
    return new_session(client)["upload_session_id"]


def test_upload_page(client, session_id, settings):
    """The page of a session holds the component, and lets it talk to this service and the store alone."""
    page = client.get(f"/u/{session_id}")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert f'<loadbay-uploader session="{session_id}">' in page.text
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self' blob: data:",
        "connect-src": f"'self' {settings['S3_ENDPOINT']}", "frame-ancestors": "'none'", "base-uri": "'none'",
        "form-action": "'none'",
    }  # fmt: skip
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"


def test_where_clients_reach_the_store(make_client):
    """The policy names the store as browsers reach it."""
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
def test_title(client, metadata, title):
    """The page is headed by the session's own batch_name, where there is one."""
    page = client.get(f"/u/{new_session(client, metadata=metadata)['upload_session_id']}")
    assert f"<h1>{title}</h1>" in page.text
    assert f"<title>{title}</title>" in page.text


@pytest.mark.parametrize("session_id", [COLLECTION, "cut", "<script>alert(1)", "a" * 1000])
def test_unknown(client, session_id):
    """A link that leads nowhere is told as a page, which repeats nothing of it."""
    page = client.get(f"/u/{session_id}?{session_id}")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "This link is not valid" in page.text
    assert session_id not in page.text
    assert "<script" not in page.text


def test_database_is_away(make_client):
    """Without a database the page says that nothing is lost, and when to come again."""
    client = make_client(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing", CREATE_MISSING="0")
    page = client.get(f"/u/{COLLECTION}")
    assert (page.status_code, page.mimetype) == (503, "text/html")
    assert "Uploaded files are safe" in page.text
    assert int(page.headers["Retry-After"]) > 0


def test_start_page(client):
    """On a dev box: what this is, how store and database are, a button and the way to the API."""
    page = client.get("/")
    assert page.status_code == 200
    assert re.findall(r'class="name">(\w+)</span> ([\w ]+)</li>', page.text) == [
        ("Database", "OK"),
        ("Store", "OK"),
    ]
    assert '<button type="button" class="primary" id="open" data-base="/">' in page.text
    assert 'href="/docs"' in page.text
    assert f"Loadbay {VERSION}" in page.text


def test_start_page_tells_faults(make_client, make_database):
    """It says what is wrong with store and database, and who knows more."""
    away = {"S3_ENDPOINT": f"http://127.0.0.1:{free_port()}", "DATABASE_URL": make_database(empty=True)}
    page = make_client(**away, CREATE_MISSING="0").get("/")
    assert page.status_code == 200
    assert "The object store is unreachable." in page.text
    assert "The database is unreachable." in page.text
    assert "flask --app app doctor" in page.text
    assert "OK" not in page.text
    assert "The bucket does not exist." in make_client(S3_BUCKET="not-there", CREATE_MISSING="0").get("/").text


def test_start_page_of_a_closed_deployment(make_client):
    """Elsewhere it says what this is and which version, and nothing else."""
    page = make_client(ALLOW_ANONYMOUS="0").get("/")
    assert page.status_code == 200
    assert f"Loadbay {VERSION}" in page.text
    for told in ("<button", "<script", "<a ", "Store", "Database", "OK"):
        assert told not in page.text


@pytest.mark.parametrize("name", sorted(path.name for path in STATIC.iterdir()))
def test_static(client, name):
    """Every static file is handed to any site, and only once as long as it stays the same."""
    with client.get(f"/static/{name}") as response:
        assert (response.status_code, response.data) == (200, (STATIC / name).read_bytes())
        headers = response.headers
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert kinds[Path(name).suffix] in headers["Content-Type"]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cache-Control"] == "public, no-cache"
    with client.get(f"/static/{name}", headers={"If-None-Match": headers["ETag"]}) as again:
        assert (again.status_code, again.data) == (304, b"")


def test_only_static_is_for_any_site(client, session_id):
    """Pages and answers stay where CORS_ORIGINS leaves them."""
    for path in ("/", f"/u/{session_id}", f"/v1/upload_session/{session_id}"):
        assert "Access-Control-Allow-Origin" not in client.get(path, headers={"Origin": "https://a.example"}).headers


def test_static_for_a_named_site(make_client):
    """A site that CORS_ORIGINS names gets static files, too, and so does any other."""
    client = make_client(CORS_ORIGINS="https://a.example")
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", "*")):
        with client.get("/static/api.js", headers={"Origin": origin}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == allowed
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("name", ["nothing.js", "../app.py", "%2e%2e/app.py", "..%2fapp.py", ""])
def test_nothing_else_is_static(client, name):
    """What does not lie in static/ is not there."""
    response = client.get(f"/static/{name}")
    assert (response.status_code, response.json["code"]) == (404, "not_found")


@pytest.mark.parametrize("mounted", ["application", "blueprint"])
def test_below_a_prefix(settings, mounted):
    """Below a prefix, all that a page links to lies below it, too."""
    host = Flask("host")
    if mounted == "blueprint":
        host.register_blueprint(loadbay, url_prefix="/uploads", config=settings)
        client = Client(host)
    else:
        client = Client(DispatcherMiddleware(host, {"/uploads": create_app(settings)}))
    with client.post("/uploads/v1/upload_session", json={"collection_id": COLLECTION}) as response:
        session_id = response.json["upload_session_id"]
    for path in ("/uploads/", f"/uploads/u/{session_id}", "/uploads/u/cut"):
        with client.get(path) as page:
            links = re.findall(r'(?:href|src|data-base)="([^"]*)"', page.text)
        assert links
        assert all(link.startswith("/uploads/") for link in links)
        for link in links:
            with client.get(link) as linked:
                assert linked.status_code == 200, link


def test_modules_load_only_their_own(client):
    """No script or style asks anybody else for anything."""
    for path in STATIC.iterdir():
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|uploads\.example\.com)", text), path
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (STATIC / name).is_file()


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/v1/nothing"])
def test_version(client, path):
    """Every answer says of which version the service is, and the API's description is of the same."""
    assert client.get(path).headers["Loadbay-Version"] == VERSION == client.get("/openapi.json").json["info"]["version"]
