"""Promises that hold for the whole package: what is imported when, what is never done, what others read."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import snellen
from snellen.cli import app
from snellen.planning.recipe_files import list_recipes, load_recipe
from snellen.records.bundle import INPUT, MANIFEST_SCHEMA, OUTPUTS

SOURCES = Path(snellen.__file__).parent
HEAVY = ("torch", "timm", "matplotlib", "sklearn", "pandas", "scipy")


def run_python(code: str) -> list[str]:
    """The heavy modules that are loaded after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport sys, json\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import snellen",
        "import snellen.cli",
        "from snellen import load",
        "import snellen.prediction",
        "import snellen.serve.app",
    ],
)
def test_import_loads_nothing_heavy(code: str) -> None:
    assert run_python(code) == []


@pytest.mark.parametrize("name", [name for name in snellen.__all__ if name != "__version__"])
def test_public_names_exist_and_are_documented(name: str) -> None:
    found = getattr(snellen, name)
    assert found.__doc__


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = snellen.trian  # type: ignore[attr-defined]


def test_every_command_has_help_with_an_example() -> None:
    group = typer.main.get_command(app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    commands |= {f"cache {name}": command for name, command in commands.pop("cache").commands.items()}
    assert {name for name, command in commands.items() if "Example: snellen" not in (command.help or "")} == set()


def list_helps() -> list[tuple[list[str], list[str]]]:
    """(words of a command, texts of its help)."""
    found = []

    def walk(command: Any, words: list[str]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*words, name])
        if not hasattr(command, "commands"):
            found.append((words, [command.help, *(getattr(each, "help", None) or "" for each in command.params)]))

    walk(typer.main.get_command(app), [])
    return found


@pytest.mark.parametrize(("words", "texts"), list_helps(), ids=lambda value: " ".join(value)[:20])
def test_help_shows_every_bracket_that_was_written(
    words: list[str], texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    shown = " ".join(CliRunner().invoke(app, [*words, "--help"]).output.split())
    brackets = [part for text in texts for part in re.findall(r"\[[^]]*\]", text)]
    assert [part for part in brackets if part not in shown] == []


def test_nothing_pickled_is_ever_loaded() -> None:
    offences = []
    for path in SOURCES.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"torch\.load\([^\n]*|pickle\.|joblib|allow_pickle=True|weights_only=False", text):
            if "weights_only=True" not in match.group():
                offences.append(f"{path.name}: {match.group()}")
    assert offences == []


def test_onnx_runtime_has_one_door() -> None:
    """Elsewhere it would be loaded with its telemetry on; torch's exporter may load it by itself."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")}
    loads = re.compile(r"^\s*(import|from) onnxruntime|import_module\([\"']onnxruntime", re.MULTILINE)
    assert [name for name, text in texts.items() if loads.search(text)] == ["onnx_runtime.py"]
    exports = [text for text in texts.values() if "torch.onnx.export(" in text]
    assert exports
    assert all("switch_off_telemetry()" in text for text in exports)


def test_no_module_prints_or_asserts() -> None:
    offences = [
        path.name
        for path in SOURCES.rglob("*.py")
        if re.search(r"^\s*(print\(|assert )", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert offences == []


def test_package_inits_are_empty() -> None:
    assert [path for path in SOURCES.glob("*/__init__.py") if path.read_text(encoding="utf-8").strip()] == []


def test_every_module_says_what_it_knows() -> None:
    missing = []
    for path in SOURCES.rglob("*.py"):
        if path.name == "__init__.py" and path.parent != SOURCES:
            continue
        name = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts).removesuffix(".__init__")
        if name.endswith(("__main__", ".migrations.env")):  # they run when they are imported
            continue
        if not importlib.import_module(name).__doc__:
            missing.append(name)
    assert missing == []


def test_frozen_names_of_the_bundle_have_not_changed() -> None:
    assert (INPUT, OUTPUTS, MANIFEST_SCHEMA) == (
        "pixels", ("probabilities", "logits", "embedding", "feature_map"), 1,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_shipped_recipe_is_valid_and_described(name: str) -> None:
    assert load_recipe(name).recipe.description
