"""The audit as a whole: silent on clean cohorts, loud on a planted shortcut, three lines for the person who waits."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from snellen import workflow
from snellen.cli import app
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.cohort import Audit, Issue, PatientRule
from snellen.run_audit import say_worst


def draw(folder: Path, kind: str, n_patients: int = 36) -> Path:
    classes = {"fundus": ("grade_0", "grade_3")}.get(kind)
    write_cohort(PhantomSpec(kind=kind, n_patients=n_patients, size_px=64, seed=3, classes=classes), folder)
    return folder


@pytest.mark.parametrize("kind", ["fundus", "glomeruli"])
def test_clean_cohort_has_no_severe_issue_and_at_most_one_warning(tmp_path: Path, kind: str) -> None:
    data = draw(tmp_path / "data", kind)
    found = workflow.audit(data, cache=tmp_path / "cache", quick=True).audit
    codes = [(issue.severity, issue.code) for issue in found.issues if issue.severity != "info"]
    assert [code for severity, code in codes if severity == "severe"] == []
    assert codes in ([], [("warning", "few_patients")])
    assert found.shortcuts is not None
    assert found.shortcuts.border_auc is not None


def test_strict_audit_of_a_planted_shortcut_fails_and_tells_it_first(tmp_path: Path) -> None:
    data = draw(tmp_path / "data", "fundus", 60)
    for path in (data / "grade_3").glob("*.jpg"):
        Image.open(path).save(path, quality=30)
    arguments = ["audit", str(data), "--quick", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--strict"])
    assert result.exit_code == 2
    assert "can be told from facts of the files alone" in result.output
    told = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    first = told["issues"][0]
    assert (first["code"], first["severity"]) == ("shortcut_facts", "severe")
    assert all(first[key] for key in ("effect", "action", "overrule", "advice"))
    assert told["shortcuts"]["facts_auc"]["low"] > 0.7
    assert [need["name"] for need in told["needs"]["classes"]] == ["grade_0", "grade_3"]
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "its numbers could not be believed" in page
    assert page.count('class="intervals"') == 1
    assert "--quick</span> was given" in page


def test_three_worst_issues_are_said_in_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    rule = PatientRule(rule="", origin="column", n=1)
    audit = Audit(n_samples=1, n_read=1, n_set_aside=0, classes={}, patients=rule).with_issues(
        Issue(code=code, severity=severity, message=f"{code} is so. More of it.", advice="")  # type: ignore[arg-type]  # the three
        for code, severity in (
            ("few_patients", "warning"), ("exact_duplicates", "info"), ("unknown_code", "severe"),
            ("shortcut_border", "warning"), ("shortcut_facts", "severe"),
        )
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="snellen"):
        say_worst(audit)
    assert [record.getMessage() for record in caplog.records] == [
        "Severe: shortcut_facts is so. (shortcut_facts)",
        "Severe: unknown_code is so. (unknown_code)",
        "Warning: shortcut_border is so. (shortcut_border)",
    ]


@pytest.mark.parametrize("asked", [["--quick", "--copies", "exact"], ["--quick"]])
def test_page_repeats_the_command_with_what_the_audit_was_asked(tmp_path: Path, asked: list[str]) -> None:
    data, out = draw(tmp_path / "data", "glomeruli", 12), tmp_path / "out"
    arguments = ["audit", str(data), *asked, "--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    command = (out / "audit.html").read_text(encoding="utf-8").split('id="reproduce-h"')[1]
    assert " ".join(asked) + "</code>" in command
    assert "splits.csv" not in command
