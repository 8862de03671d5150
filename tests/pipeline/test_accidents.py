"""What happens to a run from outside: killed, stopped, disk full, data moved or edited, folders gone, no terminal.

Real processes of the real command. A process is stopped when the first file of a step appears.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline_tools import run_snellen
from snellen.ingest.phantom import PhantomSpec, write_cohort

TINY = [
    "--set", "preprocess.size=48", "--set", "augment.views=1", "--set", "evaluation.resamples=100",
    "--set", "data.copies=exact",
]  # fmt: skip
# step → what tells that it has begun, below the folder that holds `cache` and `run`
BEGUN = {
    "reading": "cache/CACHEDIR.TAG",
    "caching": "cache/pixels/*/done.npy",
    "features": "cache/features/*/done.npy",
    "head": "run/metrics.jsonl",
    "bundle": "run/bundle/*",
    "report": "run/evaluation-val.json",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest cohort that trains."""
    folder = tmp_path_factory.mktemp("tiny") / "oct"
    write_cohort(PhantomSpec(kind="oct", n_patients=30, size_px=48, classes=("normal", "cysts")), folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run` and `cache` of a run that nothing happened to; it has left its data as they were."""
    folder = tmp_path_factory.mktemp("undisturbed")
    before = list_files(tiny)
    run_snellen("train", tiny, "--out", folder / "run", "--cache", folder / "cache", *TINY)
    assert list_files(tiny) == before
    return folder


@pytest.fixture
def place(undisturbed: Path, tmp_path: Path) -> Path:
    """A folder for a run, whose cache knows the exported backbone: exporting takes longest and is not the point."""
    (tmp_path / "cache").mkdir()
    shutil.copytree(undisturbed / "cache" / "graphs", tmp_path / "prepared" / "graphs")
    return tmp_path


def train(tiny: Path, place: Path) -> list[str]:
    return ["train", str(tiny), "--out", str(place / "run"), "--cache", str(place / "cache"), *TINY]


def start(words: Sequence[str | Path], **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "snellen", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,  # type: ignore[call-overload]  # of Popen
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], place: Path, pattern: str) -> None:
    """Until a file of this name is there, or the process has ended."""
    tick = threading.Event()
    while process.poll() is None and not list(place.glob(pattern)):
        tick.wait(0.005)


def stop_at(step: str, how: signal.Signals, words: list[str], place: Path) -> None:
    process = start(words)
    wait_for(process, place, BEGUN[step])
    process.send_signal(how)
    _, told = process.communicate(timeout=120)
    assert "Traceback" not in told
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), f"{step}: {told}"
    if how == signal.SIGINT:
        assert "Stopped. What is computed is kept." in told
        assert f"snellen train --resume {place / 'run'}" in told or "Give the same command again: snellen train" in told


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def read_scores(place: Path) -> bytes:
    return (place / "run" / "scores-test.csv").read_bytes()


def test_run_stopped_at_every_step_ends_in_the_same_scores(tiny: Path, undisturbed: Path, place: Path) -> None:
    # in turn interrupted and killed: each step twice would take as long again
    for number, step in enumerate(("caching", "features", "bundle", "report")):
        is_run = (place / "run" / "run.json").exists()
        words = ["train", "--resume", str(place / "run")] if is_run else train(tiny, place)
        stop_at(step, signal.SIGKILL if number % 2 else signal.SIGINT, words, place)
        if number == 0:
            shutil.copytree(place / "prepared" / "graphs", place / "cache" / "graphs", dirs_exist_ok=True)
    run_snellen("train", "--resume", place / "run")
    assert read_scores(place) == read_scores(undisturbed)
    assert json.loads((place / "run" / "run.json").read_text())["state"] == "finished"


def test_same_command_on_an_interrupted_run_says_how_to_go_on(tiny: Path, place: Path) -> None:
    (place / "run").mkdir()
    stop_at("caching", signal.SIGKILL, train(tiny, place), place)
    error = run_snellen(*train(tiny, place), expect=2).stderr
    assert f"snellen train --resume {place / 'run'}" in error


def test_run_does_not_go_on_with_other_data(tiny: Path, undisturbed: Path, place: Path) -> None:
    mine = place / "mine"
    shutil.copytree(tiny, mine)
    shutil.copytree(place / "prepared" / "graphs", place / "cache" / "graphs")
    shutil.copy(undisturbed / "cache" / "CACHEDIR.TAG", place / "cache")
    stop_at("caching", signal.SIGKILL, train(mine, place), place)
    before = (place / "run" / "splits.csv").read_bytes()
    next((mine / "normal").iterdir()).unlink()
    error = run_snellen("train", "--resume", place / "run", expect=2).stderr
    assert "was begun with other data" in error
    assert "1 picture is gone, such as normal/" in error
    assert (place / "run" / "splits.csv").read_bytes() == before


def test_two_runs_at_once_share_a_cache(tiny: Path, undisturbed: Path, place: Path) -> None:
    (place / "a").mkdir()
    (place / "b").mkdir()
    words = [["train", tiny, "--out", place / name / "run", "--cache", place / "cache", *TINY] for name in ("a", "b")]
    both = [start(each) for each in words]
    for process in both:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert read_scores(place / "a") == read_scores(place / "b") == read_scores(undisturbed)
    assert len(list((place / "cache" / "pixels").iterdir())) == 1


def test_full_disk_is_told_and_the_run_goes_on_later(tiny: Path, undisturbed: Path, place: Path) -> None:
    def limit() -> None:
        # no file may grow beyond this: what a full disk or a quota does to the cache
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    shutil.copytree(place / "prepared" / "graphs", place / "cache" / "graphs")
    shutil.copy(undisturbed / "cache" / "CACHEDIR.TAG", place / "cache")
    process = start(train(tiny, place), preexec_fn=limit)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert "Traceback" not in told
    assert "--cache DIR" in told
    assert str(place / "cache") in told
    assert f"Go on with: snellen train --resume {place / 'run'}" in told
    first = (place / "run" / "run.log").read_text()
    assert f"Error: {place / 'cache'}" in first
    run_snellen("train", "--resume", place / "run")
    assert (place / "run" / "run.log").read_text().startswith(first)
    assert read_scores(place) == read_scores(undisturbed)


def test_cache_need_is_told_before_it_is_written(undisturbed: Path) -> None:
    log = (undisturbed / "run" / "run.log").read_text()
    assert log.index("MB pixels + ") < log.index("preprocess: ")
    assert f"in {undisturbed / 'cache'}, " in log


def test_moved_data_find_their_cache_and_edited_data_do_not(tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(undisturbed / "cache", cache)
    moved = tmp_path / "with spaces" / "Ünïcode 日本" / ("l" * 120) / "oct"
    shutil.copytree(tiny, moved)
    before = list_files(cache / "pixels")
    out = tmp_path / "with spaces" / ("r" * 80)
    run_snellen("train", moved, "--out", out / "run", "--cache", cache, *TINY)
    assert read_scores(out) == read_scores(undisturbed)
    assert list_files(cache / "pixels").keys() == before.keys()
    one, other = sorted((moved / "normal").iterdir())[:2]
    shutil.copy(other, one)
    run_snellen("audit", moved, "--quick", "--copies", "exact", "--out", tmp_path / "audit", "--cache", cache)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["duplicate_groups"]


def test_run_folder_deleted_meanwhile_ends_in_words(tiny: Path, place: Path) -> None:
    shutil.copytree(place / "prepared" / "graphs", place / "cache" / "graphs")
    (place / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    process = start(train(tiny, place))
    wait_for(process, place, "run/plan.json")
    shutil.rmtree(place / "run", ignore_errors=True)
    _, told = process.communicate(timeout=300)
    assert "Traceback" not in told
    assert process.returncode == 2, told
    assert str(place / "run") in told


@pytest.mark.parametrize("out", ["file/run", "/proc/run", "/dev/null/run"])
def test_out_that_cannot_be_written_is_told(out: str, tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    words = ["audit", tiny, "--quick", "--copies", "exact", "--out", tmp_path / out, "--cache", undisturbed / "cache"]
    error = run_snellen(*words, expect=2).stderr
    assert "--out" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_data_are_left_as_they_were(tiny: Path, undisturbed: Path, tmp_path: Path) -> None:
    before = list_files(tiny)
    run_snellen(
        "audit", tiny, "--quick", "--copies", "exact", "--out", tmp_path / "audit", "--cache", undisturbed / "cache"
    )
    run_snellen("plan", tiny, "--out", tmp_path / "plan", "--cache", undisturbed / "cache")
    assert list_files(tiny) == before


ENVIRONMENTS: dict[str, Mapping[str, str | None]] = {
    "no UTF-8": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None},
    "no terminal": {"TERM": "dumb", "COLUMNS": "1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_audit_works_in_a_poor_environment(name: str, tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "Größe 日本"
    shutil.copytree(tiny, data)
    (data / "normal" / "bad ü.png").write_bytes(b"")
    environment = {**os.environ, **ENVIRONMENTS[name]}
    done = subprocess.run(
        [
            sys.executable, "-m", "snellen", "audit", data, "--quick", "--copies", "exact", "--out", tmp_path / "audit",
            "--cache", tmp_path / "cache",
        ],
        env={key: value for key, value in environment.items() if value is not None}, capture_output=True, check=False,
        stdin=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["n_set_aside"] == 1
    assert "bad ü.png" in (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")


def test_names_that_the_system_cannot_spell_are_set_aside(tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "Größe 日本"
    shutil.copytree(tiny, data)
    shutil.copy(next((data / "normal").iterdir()), data / "normal" / "ü.png")
    done = subprocess.run(
        [
            sys.executable, "-m", "snellen", "audit", data, "--quick", "--copies", "exact", "--out", tmp_path / "audit",
            "--cache", tmp_path / "cache",
        ],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    audit = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert [each["code"] for each in audit["set_aside"]] == ["unreadable_name"]


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", ">/dev/full", ">/dev/full 2>/dev/full", "| true"])
def test_closed_or_full_streams_bring_no_traceback(redirection: str, tiny: Path, undisturbed: Path) -> None:
    words = f'"{sys.executable}" -m snellen audit "{tiny}" --cache "{undisturbed / "cache"}" {redirection}'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_help_into_a_full_stream_is_told() -> None:
    words = f'"{sys.executable}" -m snellen --help >/dev/full'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, "cannot be written" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_cache_info_counts_nothing_in_a_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "mine").write_text("x")
    assert "is no cache of Snellen" in run_snellen("cache", "info", "--cache", tmp_path, expect=2).stderr


def test_unknown_home_is_told(tiny: Path) -> None:
    assert "full paths" in run_snellen("audit", "~nobody-has-this-name/data", expect=2).stderr


def test_cache_info_and_clear_tell_what_they_did(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "cache", tmp_path / "cache")
    told = run_snellen("cache", "info", "--cache", tmp_path / "cache").stdout
    assert "free on its disk" in told
    assert "snellen cache clear" in told
    found = json.loads(run_snellen("cache", "info", "--cache", tmp_path / "cache", "--json").stdout)
    assert found["free_bytes"] > 0
    cleared = json.loads(run_snellen("cache", "clear", "--cache", tmp_path / "cache", "--json").stdout)
    assert cleared["freed_bytes"] == sum(found["bytes"].values()) > 0
    assert "nothing was there" in run_snellen("cache", "clear", "--cache", tmp_path / "cache").stdout
