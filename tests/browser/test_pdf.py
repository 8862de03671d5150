"""`--pdf` prints the report by a browser of this machine, and says so where there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from snellen import run_pdf
from snellen.cli import app
from snellen.core.errors import StorageError, UsageError

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")


def write_page(folder: Path) -> Path:
    page = folder / "a report ü.html"
    page.write_text("<!DOCTYPE html><html lang=en><title>t</title><p>A page.</p>", encoding="utf-8")
    return page


@needs_chromium
def test_page_is_printed_beside_itself(tmp_path: Path) -> None:
    found = run_pdf.print_pdf(write_page(tmp_path))
    assert found == tmp_path / "a report ü.pdf"
    assert found.read_bytes().startswith(b"%PDF-")


def test_browser_that_fails_is_told(tmp_path: Path) -> None:
    program = shutil.which("false")
    if program is None:
        pytest.skip("needs the program `false`")
    with pytest.raises(StorageError, match="could not be printed"):
        run_pdf.print_pdf(write_page(tmp_path), program)


def test_machine_without_browser_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run_pdf, "_PLACES", ())
    with pytest.raises(UsageError, match="--pdf needs Chromium"):
        run_pdf.find_browser()
    done = CliRunner().invoke(app, ["train", str(tmp_path), "--pdf", "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "--pdf needs Chromium" in done.output
    assert not (tmp_path / "run").exists()


def test_pdf_of_an_evaluation_without_out_is_refused() -> None:
    done = CliRunner().invoke(app, ["evaluate", "run", "--pdf"])
    assert done.exit_code == 2
    assert "Add --out" in done.output
