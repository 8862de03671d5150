"""Fetching by name: which sets there are, what is refused, and how a fetched one is found again.

The published table is stood in for by a package of the same layout, whose addresses lie on loopback.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from file_server import FileServer, serve
from snellen import workflow
from snellen.core.download import Patience
from snellen.core.errors import DataError, FetchError, UsageError
from snellen.ingest.arrays import MEDMNIST_CLASSES
from snellen.ingest.medmnist import fetch_set, find_fetched, list_sets
from snellen.ingest.sources import read_source

PATIENCE = Patience(attempts=2, pause_s=0)


def build_npz(n: int = 30) -> bytes:
    """MedMNIST's layout with the four classes of octmnist."""
    arrays = {}
    for seed, part in enumerate(("train", "val", "test")):
        arrays[f"{part}_images"] = np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n, dtype=np.uint8) % 4)[:, None]
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


CONTENT = build_npz()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves octmnist at two sizes; the stand-in package names it and sets that are out of scope."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("SNELLEN_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    with serve({"octmnist.npz": CONTENT, "octmnist_64.npz": CONTENT}) as running:
        write_package(tmp_path / "packages", running.url)
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join([str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")])
        )
        yield running


def write_package(folder: Path, url: str) -> None:
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    common = {"task": "multi-class", "label": {"0": "a", "1": "b"}, "n_samples": {"train": 1, "val": 1, "test": 1}}
    info = {
        "octmnist": {
            **common,
            "url": f"{url}/octmnist.npz?download=1",
            "MD5": md5,
            "url_64": f"{url}/octmnist_64.npz",
            "MD5_64": md5,
            "license": "CC BY 4.0",
        },
        "chestmnist": {**common, "task": "multi-label, binary-class", "url": f"{url}/chestmnist.npz", "MD5": md5},
        "organmnist3d": {**common, "url": f"{url}/organmnist3d.npz", "MD5": md5},
    }
    (folder / "medmnist").mkdir(parents=True)
    (folder / "medmnist" / "__init__.py").write_text("raise RuntimeError('the package itself is never imported')")
    (folder / "medmnist" / "info.py").write_text(f"INFO = {json.dumps(info)}\n")


def run_snellen(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snellen", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done


def test_fetched_set_is_known_by_its_name(server: FileServer, tmp_path: Path) -> None:
    found = fetch_set("octmnist", patience=PATIENCE)
    assert found.path == tmp_path / "data" / "octmnist.npz"
    assert find_fetched("octmnist") == found.path
    assert workflow.build_data_request("octmnist", {}).data == str(found.path)


def test_fetched_set_is_audited_by_its_name(server: FileServer) -> None:
    fetch_set("octmnist", patience=PATIENCE)
    found = json.loads(run_snellen("audit", "octmnist", "--quick", "--copies", "exact", "--json").stdout)
    assert set(found["classes"]) == set(MEDMNIST_CLASSES["octmnist"])


@pytest.mark.parametrize(("name", "size"), [("octmnist", 64), ("octmnist_64", None), ("OCTMNIST_64", 64)])
def test_size_is_an_option_or_part_of_the_name(server: FileServer, name: str, size: int | None) -> None:
    assert fetch_set(name, size=size, patience=PATIENCE).path.name == "octmnist_64.npz"
    assert find_fetched("octmnist_64") is not None


def test_folder_of_that_name_wins(server: FileServer, tmp_path: Path) -> None:
    fetch_set("octmnist", patience=PATIENCE)
    (tmp_path / "octmnist").mkdir()
    assert workflow.build_data_request("octmnist", {}).data == str(tmp_path / "octmnist")


@pytest.mark.parametrize(
    ("name", "command"), [("octmnist", "snellen fetch octmnist"), ("octmnist_64", "snellen fetch octmnist --size 64")]
)
def test_set_that_is_not_fetched_names_the_command(server: FileServer, name: str, command: str) -> None:
    with pytest.raises(DataError) as caught:
        find_fetched(name)
    assert caught.value.hint == command


@pytest.mark.parametrize("data", ["octmnist.npz", "eyes", "data/octmnist", "octmnist_32", "chestmnist"])
def test_other_words_name_no_set(server: FileServer, data: str) -> None:
    assert find_fetched(data) is None


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("octmnits", "Did you mean octmnist"),
        ("oct", "Did you mean octmnist"),
        ("chestmnist", "several labels"),
        ("organmnist3d", "volumes"),
    ],
)
def test_name_that_cannot_be_fetched_is_explained(server: FileServer, name: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch_set(name)
    assert word in str(caught.value)


def test_contradicting_sizes_are_refused(server: FileServer) -> None:
    with pytest.raises(UsageError, match="contradict"):
        fetch_set("octmnist_64", size=128)


def test_size_that_is_not_published_is_refused(server: FileServer) -> None:
    with pytest.raises(UsageError, match="128"):
        fetch_set("octmnist", size=128)


def test_mirror_is_asked_instead(server: FileServer, tmp_path: Path) -> None:
    server.files = {"mirror/octmnist.npz": CONTENT}
    found = fetch_set("octmnist", out=tmp_path / "here", mirror=f"{server.url}/mirror/", patience=PATIENCE)
    assert found.path == tmp_path / "here" / "octmnist.npz"


def test_altered_file_of_a_mirror_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.files["octmnist.npz"] = CONTENT[:-1] + b"x"
    with pytest.raises(FetchError, match="not the published file"):
        fetch_set("octmnist", mirror=server.url, patience=PATIENCE)
    assert find_names(tmp_path / "data") == []


def find_names(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir() if not item.name.startswith(".")]


def test_command_lists_and_fetches(server: FileServer, tmp_path: Path) -> None:
    listed = json.loads(run_snellen("fetch", "--json").stdout)
    assert [item["name"] for item in listed] == ["octmnist", "chestmnist", "organmnist3d"]
    server.trouble = ["cut"]
    told = run_snellen("fetch", "octmnist")
    assert "snellen train octmnist" in told.stdout
    again = json.loads(run_snellen("fetch", "octmnist", "--json").stdout)
    assert (again["is_new"], again["path"]) == (False, str(tmp_path / "data" / "octmnist.npz"))


def test_two_commands_at_once_leave_one_whole_file(server: FileServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snellen", "fetch", "octmnist", "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(process.communicate()[0]) for process in running]
    assert sorted(item["is_new"] for item in told) == [False, True]
    assert (tmp_path / "data" / "octmnist.npz").read_bytes() == CONTENT


def test_missing_package_is_explained(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(FetchError) as caught:
        list_sets()
    assert "snellen[fetch]" in caught.value.hint


@pytest.mark.parametrize("text", ["INFO = load()", "nothing = 1", "INFO = {"])
def test_table_of_another_form_is_told(server: FileServer, tmp_path: Path, text: str) -> None:
    (tmp_path / "packages" / "medmnist" / "info.py").write_text(text)
    with pytest.raises(FetchError, match="cannot be understood"):
        list_sets()


def test_class_names_are_those_of_the_installed_package() -> None:
    if importlib.util.find_spec("medmnist") is None:
        pytest.skip("needs the extra fetch")
    sets = {name: item for name, item in list_sets().items() if not item.out_of_scope}
    published = {name: item.classes for name, item in sets.items()}
    # the published name of this one goes on with what it comprises, in parentheses
    blood = tuple(name.partition("(")[0] for name in published["bloodmnist"])
    assert {**published, "bloodmnist": blood} == MEDMNIST_CLASSES


@pytest.mark.parametrize("name", sorted(MEDMNIST_CLASSES))
def test_every_set_is_recognised_by_its_file_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}_64.npz"
    path.write_bytes(CONTENT)
    source = read_source(str(path), {})
    assert source.samples[0].label == MEDMNIST_CLASSES[name][0]
    assert name in source.class_origin
    assert source.is_ordered == (name == "retinamnist")


@pytest.mark.parametrize("name", ["cifar10", "", "foo/bar", "../../etc/passwd", "a\0b"])
def test_name_that_is_like_no_set_is_refused_with_the_list(server: FileServer, name: str) -> None:
    with pytest.raises(UsageError, match="There is no MedMNIST set") as caught:
        fetch_set(name, patience=PATIENCE)
    assert caught.value.hint == "Sets: octmnist."


def test_name_and_size_that_contradict_each_other_are_refused_also_at_the_usual_size(server: FileServer) -> None:
    run_snellen("fetch", "octmnist_64", "--size", "28", expect=2)
    with pytest.raises(UsageError, match="--size 28 contradict"):
        fetch_set("octmnist_64", size=28, patience=PATIENCE)
    assert server.asked == []
