"""The report in a real browser: nothing loaded, nothing logged, nothing wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import report_inputs
from snellen.evaluation.report import ReportInputs, render_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (uv pip install playwright)")

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BUILDERS = [
    report_inputs.build_binary,
    report_inputs.build_ordinal,
    report_inputs.build_long_names,
    report_inputs.build_minimal,
]
HEADINGS = ["Result", "Metrics", "Figures", "Pictures", "Thresholds and calibration", "How to reproduce"]


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=BUILDERS, ids=lambda build: build.__name__)
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    build: Callable[[], ReportInputs] = request.param
    path = tmp_path / "report.html"
    path.write_text(render_report(build()), encoding="utf-8")
    return path


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param)
    yield page
    page.close()


def test_report_fits_a_phone_and_asks_for_nothing(page: sync_api.Page, report: Path) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    page.goto(report.as_uri())

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_report_shows_its_headings_and_every_figure(page: sync_api.Page, report: Path) -> None:
    page.goto(report.as_uri())

    shown = page.locator("h2").all_inner_texts()
    assert [heading for heading in HEADINGS if heading not in shown] == []
    assert page.locator("svg.plot").count() >= 5
    assert page.evaluate("[...document.querySelectorAll('svg.plot')].every(e => e.getBoundingClientRect().height > 99)")


def test_report_numbers_its_tables_and_opens_the_numbers_of_a_figure(page: sync_api.Page, report: Path) -> None:
    page.goto(report.as_uri())

    page.locator("#figure-confusion summary").click()

    assert page.locator("#figure-confusion table").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_report_text_stands_out_from_the_paper_in_both_schemes(page: sync_api.Page, report: Path) -> None:
    page.goto(report.as_uri())

    # WCAG 2.2 asks 4.5 for text; the words of a figure take the page's ink.
    assert page.evaluate(_CONTRAST, "body") >= 4.5
    assert page.evaluate(_CONTRAST, "figcaption") >= 4.5
    assert page.evaluate(_CONTRAST, ".standing") >= 4.5
    assert page.evaluate(_CONTRAST, "#figure-roc svg text") >= 4.5


_CONTRAST = """selector => {
  const element = document.querySelector(selector), style = getComputedStyle(element);
  const colour = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const both = [light(colour), light(getComputedStyle(document.body).backgroundColor)].sort((a, b) => b - a);
  return (both[0] + 0.05) / (both[1] + 0.05);
}"""
