"""The audit's page in a real browser: nothing asked for, nothing wider than a phone, pictures shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pictures import write_picture
from snellen import workflow

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (uv pip install playwright)")

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a cohort with long and hostile names, copies and unreadable files."""
    folder = tmp_path_factory.mktemp("audit")
    for number in range(8):
        write_picture(folder / "data" / "amd" / f"{number}.png", number)
        write_picture(folder / "data" / ("a class of long name " * 4).strip() / f"{number}.png", 50 + number)
    write_picture(folder / "data" / "amd" / ("l" * 200 + ".png"), 3)
    write_picture(folder / "data" / "amd" / "<script>document.title='x'<!--.png", 90)
    (folder / "data" / "amd" / ("bad " * 40 + ".png")).write_bytes(b"")
    workflow.audit(folder / "data", out=folder / "out", cache=str(folder / "cache"))
    return folder / "out" / "audit.html"


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest) -> Iterator[sync_api.Page]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param)
        browser.close()


def test_audit_page_fits_a_phone_shows_its_pictures_and_asks_for_nothing(page: sync_api.Page, page_file: Path) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("[...document.images].length > 9 && [...document.images].every(e => e.naturalWidth > 0)")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.title().endswith("Snellen audit")
