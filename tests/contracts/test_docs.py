"""The documentation says what is true: commands parse, names exist, links resolve, generated pages are current."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

import snellen
from snellen.cli import app
from snellen.core import errors
from snellen.records import (
    audit,
    bundle,
    cohort,
    comparison,
    doctor,
    evaluation,
    issue_texts,
    plan,
    run,
    seeds,
    tuning,
)
from snellen.serve import audit_check

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "snellen"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELLS = ("sh", "bash", "console", "powershell", "")
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SNELLEN = re.compile(r"^(?:\$ |> )?(?:\S*/)?snellen(?= )")
FIELDS_OF_FILES = (
    cohort.Sample, cohort.PatientRule, cohort.Issue, cohort.SetAside, cohort.Audit, cohort.Split,
    audit.Giveaway, audit.Shortcuts, audit.Neighbour, audit.Suspect, audit.LabelCheck, audit.ClassNeed, audit.Needs,
    plan.Fingerprint, plan.Decision, plan.PreprocessPlan,
    run.DataRequest, run.TrainRequest, run.EpochRecord, run.WeightsRecord, run.ChosenHead, run.Resampling,
    run.StageOutcome, run.RunRecord, run.DistilledRecord, run.DistilledStage,
    evaluation.Estimate, evaluation.Intervals, evaluation.PerClass, evaluation.OperatingPoint,
    evaluation.AtPrevalence, evaluation.DecisionCurve, evaluation.ExpectedError, evaluation.CalibrationLine,
    evaluation.CalibrationCheck, evaluation.Subgroup, evaluation.PrevalenceShift,
    comparison.ComparedModel, comparison.MetricDifference, comparison.Agreement, comparison.Comparison,
    evaluation.ReliabilityBin, evaluation.CalibrationSummary, evaluation.EvidenceCheck, evaluation.Evaluation,
    evaluation.SetCoverage, evaluation.ConformalSummary, evaluation.SelectivePoint, evaluation.SelectiveRisk,
    evaluation.Abstentions, evaluation.BatchShift, bundle.Conformal,
    bundle.InputSpec, bundle.Calibration, bundle.Threshold, bundle.TrainedOn, bundle.Manifest, bundle.Parity,
    doctor.MachineFacts, doctor.Extra, doctor.Speed, doctor.Work, doctor.StepTime, doctor.Hazard, doctor.Diagnosis,
    seeds.Spread, seeds.SeedOutcome, seeds.SeedsRecord,
    tuning.TuneRequest, tuning.TrialRecord, tuning.TuneRecord, audit_check.AuditReport, audit_check.AuditProblem,
)  # fmt: skip


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def list_blocks(page: Path, languages: tuple[str, ...]) -> list[str]:
    return [match[3] for match in FENCE.finditer(read(page)) if match[2] in languages]


def without_blocks(page: Path) -> str:
    return FENCE.sub("", read(page))


def split_command(line: str) -> list[str]:
    """The words behind `snellen`, up to a pipe, a redirection or a comment."""
    words = []
    for word in shlex.split(SNELLEN.sub("", line, count=1), comments=True):
        if word in ("|", ">", ">>", "&&", ";", "2>&1"):
            break
        words.append(word)
    return words


def list_command_lines() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every command line in a block."""
    for page in PAGES:
        for block in list_blocks(page, SHELLS):
            for line in block.replace("\\\n", " ").splitlines():
                if SNELLEN.match(line.strip()):
                    yield name(page), split_command(line.strip())


def list_inline_commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every `snellen …` within a sentence; they need not be complete."""
    for page in PAGES:
        for found in re.findall(r"`(snellen [^`]+)`", without_blocks(page)):
            yield name(page), split_command(found)


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` name, and the words behind it."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] == "COMMAND":
            return command, []
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def list_options(command: Any) -> set[str]:
    options = [param for param in command.params if param.param_type_name == "option"]
    return {"--help", "-h"}.union(*([*param.opts, *param.secondary_opts] for param in options))


@pytest.mark.parametrize("page", ["cli.md", "recipe.md", "errors.md", "issues.md", "api.md"])
def test_generated_page_is_current(page: str) -> None:
    assert page not in GENERATOR.find_stale(), "run `python docs/generate.py`"


def test_generate_check_names_stale_pages_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GENERATOR, "REFERENCE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert GENERATOR.main() == 1
    assert "docs/reference/cli.md is stale" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_generated_pages_do_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = GENERATOR.render_pages()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("SNELLEN_CACHE", "elsewhere")
    assert GENERATOR.render_pages() == before


@pytest.mark.parametrize(("page", "words"), list(list_command_lines()), ids=lambda value: str(value)[:60])
def test_command_line_parses(page: str, words: list[str]) -> None:
    command, arguments = find_command(words)
    if {"--help", "-h", "--version"} & set(arguments):
        assert set(arguments) <= list_options(command)
        return
    assert not hasattr(command, "commands"), f"{page}: a command is missing: {words}"
    command.make_context("snellen", list(arguments))


def test_options_named_in_sentences_exist() -> None:
    wrong = []
    for page, words in list_inline_commands():
        command, arguments = find_command(words)
        wrong += [
            (page, words, word)
            for word in arguments
            if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in list_options(command)
        ]
    assert wrong == []


def test_paths_named_in_the_architecture_exist() -> None:
    named = re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|/))`", read(ROOT / "ARCHITECTURE.md"))
    assert len(named) > 50
    assert [path for path in named if not (SOURCES / path).exists() and not (ROOT / path).exists()] == []


def find_issue_codes() -> set[str]:
    """Codes in the source: of an Issue, first arguments of make_issue, loops over codes, tables of severities."""
    found = set()
    floor = [SOURCES / "run_audit.py"]
    for path in [*(SOURCES / "ingest").glob("*.py"), *(SOURCES / "planning").glob("*.py"), *floor]:
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Issue":
                codes = [item.value for item in node.keywords if item.arg == "code"]
                found |= {code.value for code in codes if isinstance(code, ast.Constant)}
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "make_issue":
                found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
            if isinstance(node, ast.For) and ast.unparse(node.target).strip("()").startswith("code,"):
                found |= {row[0] for row in ast.literal_eval(node.iter)}
            if isinstance(node, ast.Dict):
                found |= {
                    key.value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                    and isinstance(value, ast.Tuple)
                    and isinstance(value.elts[0], ast.Constant)
                    and value.elts[0].value in ("info", "warning", "severe")
                }
    return {str(code) for code in found}


def test_every_issue_code_is_explained_and_no_other() -> None:
    codes = find_issue_codes()
    assert {"conflicting_rows", "patients_in_several_splits", "exact_duplicates"} <= codes
    assert set(GENERATOR.ISSUES) == codes


def test_every_issue_code_tells_what_it_does_and_how_to_overrule_it() -> None:
    assert set(issue_texts.ISSUE_TEXTS) == set(GENERATOR.ISSUES)
    assert [
        code for code, texts in issue_texts.ISSUE_TEXTS.items() if not all(text.endswith(".") for text in texts)
    ] == []
    assert set(issue_texts.GRAVEST) <= set(issue_texts.ISSUE_TEXTS)


def test_every_error_is_listed_with_a_code_of_its_own() -> None:
    listed = [kind for _, kind in GENERATOR.walk_errors()]
    defined = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert set(listed) == set(defined)
    assert len({kind.code for kind in listed}) == len(listed)


@pytest.mark.parametrize("record", FIELDS_OF_FILES, ids=lambda record: record.__name__)
def test_every_field_of_a_file_is_explained(record: Any) -> None:
    text = read(ROOT / "docs" / "reference" / "files.md")
    assert [field for field in record.model_fields if not re.search(rf'[`"]{field}["`]', text)] == []


def list_python_blocks() -> list[tuple[str, str]]:
    return [(name(page), block) for page in PAGES for block in list_blocks(page, ("python", "py"))]


@pytest.mark.parametrize(("page", "block"), list_python_blocks(), ids=lambda value: str(value)[:40])
def test_python_block_compiles_and_its_names_exist(page: str, block: str) -> None:
    tree = ast.parse(block, filename=page)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "snellen":
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "snellen":
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "snellen":
            assert node.attr in snellen.__all__


def list_anchors(page: Path) -> set[str]:
    """Anchors as code hosts make them of headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_internal_links_resolve() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (anchor and anchor not in list_anchors(there)):
                broken.append(f"{name(page)}: {target}")
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", read(index))}
    assert [name(page) for page in PAGES if page.is_relative_to(index.parent) and page not in {*linked, index}] == []


def test_no_file_names_a_machine_or_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    # in pieces, so that this file does not match itself
    hosts = "|".join(
        re.escape(host) for host in ("pypi" + ".org", "python" + "hosted", "/opt" + "/pypi", "/opt" + "/wheels")
    )
    pattern = re.compile(rf"(?<![\w.])/wo{'rk'}/|/tm{'p'}/w\b|{hosts}")
    offences = []
    for path in listed.stdout.splitlines():
        file = ROOT / path
        if file.is_file() and b"\0" not in (data := file.read_bytes()):
            offences += [f"{path}: {found}" for found in set(pattern.findall(data.decode("utf-8", errors="replace")))]
    assert offences == []
