"""The page's languages: how one is chosen, plural forms, numbers and dates, and right to left."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.helpers import expect_received, file_payload, random_wav
from support.messages import CATALOGS, catalog
from support.sample_files import HTML, wav


@pytest.fixture
def languages():
    """The browser's languages; a test may override them."""
    return ["en-GB"]


@pytest.fixture
def context_options(context_options, languages):
    """The usual options, with the browser's languages."""
    if languages == ["en-GB"]:
        return context_options
    return {**context_options, "locale": languages[0]}


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.stem)
def test_plural_forms_are_those_of_the_language(page, service, path):
    """Each plural message has exactly the categories that Intl has for the language."""
    page.goto(service.base)
    categories = page.evaluate("tag => new Intl.PluralRules(tag).resolvedOptions().pluralCategories", path.stem)
    for key, message in catalog(path).items():
        if isinstance(message, dict):
            assert sorted(message) == sorted(categories), key


@pytest.mark.parametrize(
    ("languages", "choose"),
    [
        (["de-AT"], "Dateien auswählen"),
        (["pt-PT"], "Escolher arquivos"),
        (["zh-SG"], "选择文件"),
        (["zh-TW"], "Choose files"),
        (["fi"], "Choose files"),
    ],
)
def test_language_is_the_browsers(service, page, languages, choose):
    """Without anything else, the browser's first language with a catalog is chosen, or English."""
    page.goto(f"{service.base}/u/{service.open_session()}")
    expect(page.get_by_role("button", name=choose, exact=True)).to_be_visible()


def test_attribute_chooses_the_language(service, visit, page, bucket):
    """The `lang` attribute goes before the browser's languages, and a change of it rewrites what is shown."""
    session_id, body = service.open_session(), wav()
    uploader = visit(service, session_id)
    uploader.choose(file_payload("01 a.wav", body), file_payload("02 b.wav", HTML))
    component = page.locator("loadbay-uploader")
    component.evaluate("element => element.lang = 'de'")
    page.get_by_role("button", name="2 Dateien hochladen").click()
    expect(page.get_by_role("heading", name="1 von 2 Dateien empfangen, 1 fehlgeschlagen")).to_be_visible()
    expect(page.get_by_text("auch wenn ihr Name das sagt").first).to_be_visible()
    component.evaluate("element => element.lang = 'fr'")
    expect(page.get_by_role("heading", name="1 sur 2 fichiers reçus, 1 en échec")).to_be_visible()
    expect(page.get_by_role("button", name="Retirer\N{NO-BREAK SPACE}: 02 b.wav")).to_be_visible()
    component.evaluate("element => element.removeAttribute('lang')")
    expect_received(uploader.row("01 a.wav"))
    (received,) = (track for track in service.tracks(session_id) if track["status"] == "uploaded")
    assert bucket.get(received["path"]) == body


def test_catalogs_are_loaded_only_when_chosen(service, visit, page):
    """An English page loads the English catalog alone; another one is loaded when it is chosen."""
    loaded = []
    page.on("request", lambda request: loaded.append(request.url.rpartition("/loadbay/messages/")[2]))
    visit(service, service.open_session())
    assert {name for name in loaded if name.endswith(".js") and "/" not in name} == {"en.js"}
    page.locator("loadbay-uploader").evaluate("element => element.lang = 'ja'")
    expect(page.get_by_role("button", name="ファイルを選択")).to_be_visible()
    assert "ja.js" in loaded


def test_missing_catalog_leaves_the_language_as_it_is(service, visit, page):
    """If a catalog cannot be loaded, the page goes on in the language it has."""
    page.route("**/messages/it.js", lambda route: route.abort())
    visit(service, service.open_session())
    with page.expect_event("requestfailed"):
        page.locator("loadbay-uploader").evaluate("element => element.lang = 'it'")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


@pytest.mark.parametrize("languages", [["ar"]])
def test_arabic_is_right_to_left(service, page, bucket, slow_network, languages):
    """In Arabic the component is laid out from right to left, and the upload works as ever."""
    session_id, body = service.open_session(), random_wav(300_000)
    page.goto(f"{service.base}/u/{session_id}")
    choose = page.get_by_role("button", name="اختيار ملفات")
    expect(choose).to_be_visible()
    assert choose.evaluate("element => getComputedStyle(element).direction") == "rtl"
    page.locator("loadbay-uploader input[type=file]").first.set_input_files(file_payload("01 a.wav", body))
    page.get_by_role("button", name="رفع ملف واحد").click()
    row = page.locator("loadbay-uploader li.row")
    expect(row.locator("progress")).to_be_visible()
    boxes = [row.locator(selector).bounding_box() for selector in (".title", ".number")]
    assert boxes[0]["x"] < boxes[1]["x"]
    slow_network.limit(-1)
    expect(row).to_contain_text("تم الاستلام")
    (track,) = service.tracks(session_id)
    assert bucket.get(track["path"]) == body
