"""Dockerfile and compose.yaml name what exists: commands, extras, routes, variables."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from snellen.cli import app
from snellen.serve import address, anchor, routes_health

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]


@pytest.fixture
def services() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads compose.yaml; it comes with the extra `train`")
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"])


def test_image_installs_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'install "\.\[([\w,]+)\]"', DOCKERFILE)
    assert set(named.split(",")) <= set(extras)
    assert "serve" in named


def test_image_starts_a_command_that_exists() -> None:
    (entry,), (words,) = (
        re.findall(rf"^{name} (\[.+\])$", FINAL_STAGE, re.MULTILINE) for name in ("ENTRYPOINT", "CMD")
    )
    assert json.loads(entry) == ["snellen"]
    name, *arguments = json.loads(words)
    typer.main.get_command(app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_image_runs_without_rights_and_asks_after_its_health() -> None:
    (user,) = re.findall(r"^USER (\d+):", FINAL_STAGE, re.MULTILINE)
    assert int(user) > 0
    (path,) = re.findall(r"127\.0\.0\.1:8080(/\w+)'", FINAL_STAGE)
    assert path in {getattr(route, "path", None) for route in routes_health.router.routes}
    assert f"{address.STATE_VARIABLE}=/state" in FINAL_STAGE


def test_containers_are_told_variables_that_are_read(services: dict[str, Any]) -> None:
    known = {address.DB_VARIABLE, address.STATE_VARIABLE, anchor.KEY_VARIABLE, anchor.KEY_FILE_VARIABLE}
    assert set(services["snellen"]["environment"]) <= known
    url = services["snellen"]["environment"][address.DB_VARIABLE]
    read = address.read_address(re.sub(r"\$\{.*?\}", "secret", url))
    assert (read.url.host, read.url.database) == ("db", services["db"]["environment"]["POSTGRES_DB"])
    assert "secret" not in read.shown


def test_container_is_shut(services: dict[str, Any]) -> None:
    snellen = services["snellen"]
    assert (snellen["read_only"], snellen["cap_drop"]) == (True, ["ALL"])
    assert snellen["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in services["db"]
