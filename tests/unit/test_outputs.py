"""Where a command may write, and what it may remove."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snellen.core.errors import UsageError
from snellen.outputs import AUDIT, EVALUATION, PLAN, RUN, Output, hold_output, make_output, require_output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "bundle").mkdir(parents=True)
    for name in ("run.json", "plan.json", "audit.json", "evaluation.json", "my-notes.txt", "bundle/model.onnx"):
        (folder / name).write_text('{"schema_version": 1}')
    return folder


@pytest.mark.parametrize("output", [AUDIT, PLAN, EVALUATION])
def test_a_run_is_not_overwritten_by_another_command(run: Path, output: Output) -> None:
    with pytest.raises(UsageError, match="is a run"):
        require_output(run, output, overwrite=True)


@pytest.mark.parametrize("place", [".", "bundle"])
def test_an_input_is_not_overwritten(run: Path, place: str) -> None:
    with pytest.raises(UsageError, match="contains the input"):
        require_output(run, RUN, overwrite=True, inputs=[run / place])


@pytest.mark.parametrize("place", ["data", "data/normal/run", "."])
def test_nothing_is_written_into_or_over_the_data(tmp_path: Path, place: str) -> None:
    (tmp_path / "data" / "normal").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"inside the data|contains the input"):
        require_output(tmp_path / place, RUN, overwrite=True, data=tmp_path / "data")


def test_a_foreign_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            require_output(tmp_path, RUN, overwrite=overwrite)


@pytest.mark.parametrize("text", ["", "years", "[]", '{"findings": []}', "\xff"])
def test_a_foreign_file_of_the_same_name_stays_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "audit.json").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="was not written by Snellen"):
        require_output(tmp_path, AUDIT, overwrite=True)


def test_requiring_deletes_nothing(run: Path) -> None:
    require_output(run, RUN, overwrite=True)
    assert (run / "bundle" / "model.onnx").exists()


def test_making_removes_what_the_command_wrote_and_nothing_else(run: Path) -> None:
    make_output(run, RUN)
    assert [path.name for path in run.iterdir()] == ["my-notes.txt"]


HOLDER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from snellen.outputs import hold_output
with hold_output(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="Another process is writing"), hold_output(folder):
            pass
        other.kill()
    with hold_output(folder):  # the lock dies with its holder
        assert not folder.exists()


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file"):
        require_output(tmp_path / "file" / "x" / "y", EVALUATION, overwrite=False)


def test_hold_output_waits_for_the_other(tmp_path: Path) -> None:
    held, freed = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_output(tmp_path):
            held.set()
            freed.wait(5)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hold)
        assert held.wait(5)
        threading.Timer(0.2, freed.set).start()
        with hold_output(tmp_path, wait_s=5):
            assert freed.is_set()
        first.result()
