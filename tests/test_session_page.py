"""A session's `page`: what the upload page says, from the session, its key, its organization and the settings."""

import json
from uuid import uuid4

import pytest

from app import create_app
from storage.settings import SettingsError
from support.api import COLLECTION, assert_error, bearer, create_key, new_session
from support.sample_files import png

NOTHING = dict.fromkeys((
    "title", "sender", "greeting", "logo_url", "background_url", "accent_color", "terms_url", "privacy_url", "help_url",
    "language",
)) | {"allow_changes": True}  # fmt: skip
FULL = {
    "title": "Summer <b>2024</b>",
    "sender": 'Example "Records"',
    "greeting": "Hello,\nplease send us your masters.",
    "accent_color": "#0a6b4f",
    "terms_url": "https://example.com/terms",
    "privacy_url": "https://example.com/privacy?a=1",
    "help_url": "mailto:help@example.com",
    "language": "pt-BR",
    "allow_changes": False,
}


def page_of(client, session_id):
    """Return the page of a session as it is read."""
    return client.get(f"/v1/upload_session/{session_id}").json["upload_session"]["page"]


@pytest.fixture
def folder(tmp_path):
    """A PAGE_FOLDER with defaults and a logo."""
    path = tmp_path / "page"
    path.mkdir()
    (path / "page.json").write_text('{"sender": "Everyone", "title": "All", "logo_url": "logo.png"}')
    (path / "logo.png").write_bytes(png())
    return path


def test_a_session_without_a_page_has_the_defaults(client):
    """Without any page, each member is null, and what arrived may be changed."""
    created = new_session(client)
    assert created["upload_session"]["page"] == NOTHING == page_of(client, created["upload_session_id"])


def test_a_session_has_the_page_of_its_request(client):
    """All members are returned as they were given; null counts as absent."""
    created = new_session(client, page={**FULL, "logo_url": None})
    assert created["upload_session"]["page"] == {**NOTHING, **FULL} == page_of(client, created["upload_session_id"])


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("title", ""),
        ("title", "x" * 201),
        ("title", "a\nb"),
        ("sender", 7),
        ("greeting", "x" * 2001),
        ("greeting", "a\x00b"),
        ("accent_color", "red"),
        ("accent_color", "#0a6b4f;"),
        ("accent_color", "#0a6b4f\n"),
        ("terms_url", "http://example.com"),
        ("terms_url", "javascript:alert(1)"),
        ("privacy_url", "https://user:secret@example.com"),
        ("help_url", "mailto:"),
        ("help_url", "https://"),
        ("help_url", "https://example.com:99999"),
        ("language", "english"),
        ("language", "de_DE"),
        ("allow_changes", "yes"),
        ("logo_url", "https://elsewhere.example.com/logo.png"),
        ("logo_url", "logo.png"),
        ("logo_url", "../logo.png"),
        ("logo_url", "/etc/passwd"),
        ("logo_url", "data:image/png;base64,AA=="),
        ("background_url", "https://img.example.com.evil.example/x.png"),
        ("background_url", "https://img.example.com@evil.example/x.png"),
    ],
)
def test_rejects_an_invalid_member(make_client, member, value):
    """A member that is not what it must be is rejected by name, and no session is created."""
    client = make_client(PAGE_IMAGE_ORIGINS="https://img.example.com")
    response = client.post("/v1/upload_session", json={"collection_id": COLLECTION, "page": {member: value}})
    assert_error(response, 400, "invalid_request", f"page.{member}")


def test_images_may_be_of_an_allowed_origin(make_client):
    """An image of an origin in PAGE_IMAGE_ORIGINS is accepted, and the page's policy allows that origin."""
    client = make_client(PAGE_IMAGE_ORIGINS="https://img.example.com,https://cdn.example.com:8443")
    page = {"logo_url": "https://IMG.example.com/a.svg", "background_url": "https://cdn.example.com:8443/b.jpg"}
    created = new_session(client, page=page)
    assert created["upload_session"]["page"] == {**NOTHING, **page}
    policy = client.get(f"/u/{created['upload_session_id']}").headers["Content-Security-Policy"]
    assert "img-src 'self' blob: data: https://img.example.com https://cdn.example.com:8443;" in policy
    assert "https://img" not in client.get("/").headers["Content-Security-Policy"]


def test_page_folder_has_defaults_and_images(make_client, folder):
    """page.json holds for all sessions; its images have URLs of this service, which serves no other file."""
    client = make_client(PAGE_FOLDER=str(folder))
    (folder / "notes.txt").write_text("secret")
    page = new_session(client, page={"title": "Mine"})["upload_session"]["page"]
    assert page == {
        **NOTHING, "title": "Mine", "sender": "Everyone", "logo_url": "http://localhost/loadbay/page/logo.png",
    }  # fmt: skip
    response = client.get("/loadbay/page/logo.png")
    assert (response.status_code, response.mimetype, response.data) == (200, "image/png", png())
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    response.close()
    for name in ("page.json", "notes.txt", "../page/page.json", "%2e%2e/page/page.json", "none.png", "", "a%00.png"):
        assert client.get(f"/loadbay/page/{name}").status_code == 404, name


def test_session_goes_before_key_organization_and_settings(settings, folder):
    """Each member comes from the session, or else the key, the organization, the settings."""
    organization = str(uuid4())
    (folder / f"{organization}.json").write_text('{"title": "Organization", "language": "de", "greeting": "Hi"}')
    app = create_app({**settings, "PAGE_FOLDER": str(folder)})
    page = {"title": "Key", "language": "fr", "greeting": None}
    key = create_key(app, "--organization", organization, "--page", json.dumps(page))
    other = create_key(app)
    client = app.test_client()
    body = {"collection_id": COLLECTION, "page": {"title": "Session"}}
    created = client.post("/v1/upload_session", json=body, headers=bearer(key)).json["upload_session"]["page"]
    names = ("title", "language", "greeting", "sender")
    assert [created[name] for name in names] == ["Session", "fr", "Hi", "Everyone"]
    created = client.post("/v1/upload_session", json=body, headers=bearer(other)).json["upload_session"]["page"]
    assert [created[name] for name in names] == ["Session", None, None, "Everyone"]
    listed = client.get("/v1/upload_session", headers=bearer(key)).json["upload_sessions"]
    assert [session["page"]["language"] for session in listed] == ["fr"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("page.json", "{"),
        ("page.json", "[]"),
        ("page.json", '{"accent_color": "red"}'),
        ("page.json", '{"logo_url": "none.png"}'),
        ("label.json", "{}"),
    ],
)
def test_an_invalid_page_folder_is_refused_at_start(settings, folder, name, content):
    """A file of PAGE_FOLDER that is not valid aborts the start, with its name or that of the member."""
    (folder / name).write_text(content)
    with pytest.raises(SettingsError, match=r"PAGE_FOLDER: .*(page|label)"):
        create_app({**settings, "PAGE_FOLDER": str(folder)})
    with pytest.raises(SettingsError, match="PAGE_FOLDER"):
        create_app({**settings, "PAGE_FOLDER": str(folder / "none")})


def test_uploader_keys_have_a_page(app, client):
    """An uploader's key that is created over the API has a page, too."""
    full = bearer(create_key(app))
    body = {"name": "app", "collection_id": COLLECTION, "page": {"sender": "Label"}}
    created = client.post("/v1/api_key", json=body, headers=full)
    assert created.json["api_key"]["page"] == {"sender": "Label"}
    response = client.post("/v1/upload_session", json={}, headers=bearer(created.json["key"]))
    assert response.json["upload_session"]["page"]["sender"] == "Label"
    body["page"] = {"logo_url": "https://example.com/a.png"}
    assert_error(client.post("/v1/api_key", json=body, headers=full), 400, "invalid_request", "page.logo_url")


def test_links_have_a_preview(client):
    """The page has Open Graph tags with title and sender, escaped, and the session's id only in its own element."""
    created = new_session(client, page=FULL, metadata={"batch_name": "Other"})
    html = client.get(f"/u/{created['upload_session_id']}").text
    assert '<meta property="og:title" content="Summer &lt;b&gt;2024&lt;/b&gt;">' in html
    assert '<meta property="og:site_name" content="Example &#34;Records&#34;">' in html
    head = html.partition("</head>")[0]
    assert created["upload_session_id"] not in head
    assert "please send" not in head
