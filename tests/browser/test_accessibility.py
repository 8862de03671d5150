"""axe-core reads the report as an assistive technology would, in a real browser: no violation, light or dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import report_inputs
from snellen.evaluation.report import ReportInputs, render_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (uv pip install playwright)")
FOUND = find_spec("axe_playwright_python")
AXE = Path(str(FOUND.origin)).with_name("axe.min.js") if FOUND is not None else None
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
    pytest.mark.skipif(AXE is None, reason="needs axe-core (uv pip install axe-playwright-python)"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def build_full() -> ReportInputs:
    """Every part that a report may have, with evidence maps beside the pictures."""
    inputs = report_inputs.add_abstention(report_inputs.build_binary())
    return replace(inputs, load_map=lambda name, _class: report_inputs.load_thumbnail(name))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.mark.parametrize(
    ("build", "scheme", "width"),
    [(build_full, "light", 1280), (build_full, "dark", 390), (report_inputs.build_minimal, "light", 390)],
    ids=["full-light-desktop", "full-dark-phone", "minimal-light-phone"],
)
def test_report_has_no_violation_of_axe(
    browser: Any, tmp_path: Path, build: Callable[[], ReportInputs], scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_report(build()), encoding="utf-8")
    # the page's policy forbids scripts, and axe is one: the test alone goes past it
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.add_script_tag(path=str(AXE))

    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")

    told = [(each["id"], each["help"], each["nodes"][0]["html"][:120]) for each in found["violations"]]
    page.close()
    assert told == []
