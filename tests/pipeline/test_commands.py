"""The other commands on a finished run, and what a user meets who gets something wrong."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

import snellen
from pipeline_tools import run_snellen
from snellen.ingest.phantom import draw_picture
from snellen.runs import open_run


@pytest.fixture(scope="session")
def pictures(cohort: Path) -> list[Path]:
    return sorted((cohort / "normal").iterdir())[:3]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_predict_writes_a_row_a_picture_in_order(run: Path, pictures: list[Path]) -> None:
    rows = read_csv(run_snellen("predict", run / "bundle", *pictures).stdout)
    assert [row["path"] for row in rows] == [str(path) for path in pictures]
    assert list(rows[0]) == [
        "path", "prediction", "probability_cysts", "probability_normal", "decision", "abstain", "reason", "error",
        "set",
    ]  # fmt: skip
    for row in rows:
        assert float(row["probability_cysts"]) + float(row["probability_normal"]) == pytest.approx(1, abs=2e-6)


def test_predict_goes_on_after_a_bad_file(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    done = run_snellen("predict", run, bad, pictures[0], tmp_path / "absent.png")
    rows = read_csv(done.stdout)
    assert ["no picture" in row["error"] for row in rows] == [True, False, False]
    assert rows[1]["prediction"]
    assert "does not exist" in rows[2]["error"]
    assert "2 picture(s)" in done.stderr


def test_predict_takes_folders_and_patterns(run: Path, cohort: Path) -> None:
    folder = read_csv(run_snellen("predict", run, cohort / "cysts").stdout)
    pattern = read_csv(run_snellen("predict", run, f"{cohort}/cysts/*_left_*.png").stdout)
    assert len(folder) == len(list((cohort / "cysts").iterdir()))
    assert 0 < len(pattern) < len(folder)


def test_predict_json_has_the_names_of_the_csv(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    run_snellen("predict", run, pictures[0], "--out", tmp_path / "p.json")
    from_file = json.loads((tmp_path / "p.json").read_text())
    from_screen = json.loads(run_snellen("predict", run, pictures[0], "--json").stdout)
    assert from_file == from_screen
    assert list(from_file[0]) == list(read_csv(run_snellen("predict", run, pictures[0]).stdout)[0])


def test_predict_refuses_to_overwrite(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "mine.csv"
    target.write_text("mine")
    run_snellen("predict", run, pictures[0], "--out", target, expect=2)
    assert target.read_text() == "mine"
    run_snellen("predict", run, pictures[0], "--out", target, "--overwrite", expect=2)
    assert target.read_text() == "mine"
    earlier = tmp_path / "earlier.csv"
    for extra in ((), ("--overwrite",)):
        run_snellen("predict", run, pictures[0], "--out", earlier, *extra)
    assert earlier.read_text().startswith("path,prediction,")


def test_predict_abstains_on_another_kind_of_picture(run: Path, tmp_path: Path) -> None:
    fundus = draw_picture("fundus", "grade_0", patient_seed=1, size_px=200)
    cv2.imwrite(str(tmp_path / "synthetic_fundus.png"), cv2.cvtColor(fundus, cv2.COLOR_RGB2BGR))
    row = read_csv(run_snellen("predict", run, tmp_path / "synthetic_fundus.png").stdout)[0]
    assert row["abstain"] == "true"
    assert row["reason"]


def test_bundle_works_after_moving_away_from_run_and_data(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    shutil.copytree(run / "bundle", tmp_path / "elsewhere" / "model")
    here = run_snellen("predict", run / "bundle", pictures[0]).stdout
    assert run_snellen("predict", tmp_path / "elsewhere" / "model", pictures[0]).stdout == here


def test_altered_bundle_is_refused(run: Path, pictures: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(run / "bundle", copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    assert "model.onnx was altered" in run_snellen("predict", copy, pictures[0], expect=2).stderr


def test_altered_manifest_is_refused_before_the_test_split_is_opened(
    run: Path, pictures: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "bundle" / "manifest.json").read_text()
    (copy / "bundle" / "manifest.json").write_text(text.replace('"cysts"', '"?"').replace('"normal"', '"cysts"'))
    for command in (["predict", copy, pictures[0]], ["evaluate", copy]):
        assert "manifest.json was altered" in run_snellen(*command, expect=2).stderr
    assert (copy / "run.json").read_bytes() == (run / "run.json").read_bytes()


def test_evaluate_counts_every_opening_of_the_test_split(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = open_run(copy).record.test_opened  # other tests may have evaluated the shared run
    done = run_snellen("evaluate", copy, "--split", "val")
    assert "Note: These numbers are measured on validation pictures" in done.stdout
    refused = run_snellen("evaluate", copy, "--by", "camera", expect=2)
    assert "no column camera" in refused.stderr
    refused = run_snellen("evaluate", copy, "--unit", "person", expect=2)
    assert "Units are picture, eye and patient" in refused.stderr
    assert open_run(copy).record.test_opened == before
    done = run_snellen("evaluate", copy, "--json")
    assert open_run(copy).record.test_opened == before + 1
    found = json.loads(done.stdout)
    assert found["test_opened"] == before + 1
    assert found["metrics"] == json.loads((run / "evaluation.json").read_text())["metrics"]
    assert any(f"opened {before + 1} times" in note for note in found["notes"])


def test_openings_counted_at_once_are_all_counted(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    before = open_run(copy).record.test_opened
    words = "from snellen.run_evaluation import count_opening; from pathlib import Path; import sys\n"
    words += "for _ in range(10): count_opening(Path(sys.argv[1]))"
    processes = [subprocess.Popen([sys.executable, "-c", words, str(copy)]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert json.loads((copy / "run.json").read_text())["test_opened"] == before + 30


@pytest.mark.parametrize("place", ["file/x", "copy/bundle/x", "data/x"])
def test_evaluate_refuses_a_bad_place_before_it_counts(place: str, run: Path, cohort: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    before = open_run(copy).record.test_opened
    (tmp_path / "file").write_text("")
    out = cohort / "x" if place == "data/x" else tmp_path / place
    run_snellen("evaluate", copy, "--out", out, expect=2)
    assert not out.exists()
    assert open_run(copy).record.test_opened == before


def test_evaluate_without_a_bundle_counts_nothing(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "bundle")
    before = open_run(copy).record.test_opened
    run_snellen("evaluate", copy, expect=2)
    assert open_run(copy).record.test_opened == before


def test_evaluate_names_classes_that_the_bundle_lacks(run: Path, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "data")
    (tmp_path / "data" / "cysts").rename(tmp_path / "data" / "oedema")
    copy = shutil.copytree(run, tmp_path / "copy")
    error = run_snellen("evaluate", copy / "bundle", tmp_path / "data", expect=2).stderr
    assert "oedema" in error
    assert "cysts" in error
    assert open_run(copy).record.test_opened == open_run(run).record.test_opened  # refused, so nothing was opened


def test_audit_writes_its_files_and_speaks_json(cohort: Path, cache: Path, tmp_path: Path) -> None:
    done = run_snellen("audit", cohort, "--out", tmp_path / "audit", "--cache", cache, "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert (tmp_path / "audit" / "cohort.csv").exists()


def test_strict_audit_fails_on_severe_issues(tmp_path: Path, cohort: Path, cache: Path) -> None:
    names = [path.relative_to(cohort).as_posix() for path in sorted(cohort.rglob("*.png"))]
    rows = [f"{name},{name.split('/')[0]}" for name in names] + [f"{names[0]},normal"]
    shutil.copytree(cohort, tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    run_snellen("audit", tmp_path / "data" / "labels.csv", "--cache", cache)
    error = run_snellen("audit", tmp_path / "data" / "labels.csv", "--strict", "--cache", cache, expect=2).stderr
    assert "another label" in error


def test_plan_shows_reasons_and_layers(cohort: Path, cache: Path) -> None:
    done = run_snellen("plan", cohort, "--cache", cache, "--set", "training.stages.0.epochs=3")
    assert "training.stages.0.epochs" in done.stdout
    assert "asked" in done.stdout
    assert "3,371,008" in done.stdout  # parameters of EfficientNet-Lite0 without its classifier


def test_more_threads_than_processors_are_told(cohort: Path, cache: Path) -> None:
    words = ["plan", cohort, "--cache", cache, "--set", "training.threads=256"]
    assert "Warning: training.threads = 256, but this process may use" in run_snellen(*words).stderr


def test_class_that_cannot_fill_the_splits_is_named_with_counts(tmp_path: Path, cohort: Path, cache: Path) -> None:
    shutil.copytree(cohort / "normal", tmp_path / "data" / "normal")
    (tmp_path / "data" / "cysts").mkdir()
    one = sorted((cohort / "cysts").iterdir())[0].name.rsplit("_", 2)[0]
    for path in (cohort / "cysts").glob(f"{one}_*"):
        shutil.copy(path, tmp_path / "data" / "cysts")
    error = run_snellen("train", tmp_path / "data", "--out", tmp_path / "run", "--cache", cache, expect=2).stderr
    assert "class cysts" in error
    assert "1 patient" in error
    assert "--patients none" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "DATA or --resume"),
        (["train", "--resume", "nowhere", "--seed", "0", "--no-test"], "takes no --seed, --no-test"),
        (["train", "nowhere"], "does not exist"),
        (["train", "nowhere", "--recipe", "aut"], "Did you mean auto"),
        (["train", "nowhere", "--set", "preprocess.sise=3"], "did you mean preprocess.size"),
        (["train", "nowhere", "--set", "preprocess.size=3", "--set", "augment.views=-1"], "augment.views"),
        (["train", "nowhere", "--columns", "image"], "role=column"),
        (["train", "nowhere", "--columns", "label=a,label=b"], "names label twice"),
        (["evaluate", "nowhere"], "does not exist"),
        (["predict", "nowhere", "x.jpg"], "does not exist"),
        (["recipes", "nothing"], "no recipe"),
        (["demo", "--kind", "mri", "--out", "new"], "mri"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in run_snellen(*arguments, expect=2).stderr


def test_recipe_printed_can_be_trained_with(tmp_path: Path, cohort: Path, cache: Path) -> None:
    (tmp_path / "mine.toml").write_text(run_snellen("recipes", "auto").stdout)
    done = run_snellen("plan", cohort, "--recipe", tmp_path / "mine.toml", "--cache", cache, "--json")
    assert json.loads(done.stdout)["recipe"] == "mine"


def test_absent_weights_are_told_by_plan_and_leave_no_run(cohort: Path, cache: Path, tmp_path: Path) -> None:
    wish = ["--set", "model.weights=nope.safetensors", "--cache", cache]
    assert "nope.safetensors does not exist" in run_snellen("plan", cohort, *wish, expect=2).stderr
    told = run_snellen("train", cohort, *wish, "--out", tmp_path / "run", expect=2).stderr
    assert "nope.safetensors does not exist" in told
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_be_downloaded_leave_no_run(
    cohort: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    wish = ["--set", "model.backbone=test_resnet", "--cache", cache]
    assert "not on this machine" in run_snellen("plan", cohort, *wish).stderr
    told = run_snellen("train", cohort, *wish, "--out", tmp_path / "run", expect=2).stderr
    assert "cannot be reached" in told
    assert not (tmp_path / "run").exists()


def test_cache_is_measured_and_cleared(cohort: Path, tmp_path: Path) -> None:
    run_snellen("audit", cohort, "--quick", "--copies", "exact", "--cache", tmp_path / "cache")
    (tmp_path / "cache" / "precious.txt").write_text("not ours")
    found = json.loads(run_snellen("cache", "info", "--cache", tmp_path / "cache", "--json").stdout)
    assert found["bytes"]["facts"] > 0
    run_snellen("cache", "clear", "--cache", tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["CACHEDIR.TAG", "precious.txt"]


def test_version_is_printed() -> None:
    assert run_snellen("--version").stdout.strip() == snellen.__version__


def test_changed_pictures_are_not_evaluated_as_those_of_the_run(run: Path, cohort: Path, tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "run"
    shutil.copytree(cohort, data)
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["request"]["source"]["data"] = str(data)
    (copy / "run.json").write_text(json.dumps(record))
    name = next(row["sample"] for row in read_csv((copy / "splits.csv").read_text()) if row["split"] == "test")
    shutil.copy(next(path for path in sorted(data.rglob("*.png")) if path != data / name), data / name)
    assert name in run_snellen("evaluate", copy, expect=2).stderr


def test_failed_training_leaves_the_earlier_run(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    run_snellen("train", tmp_path / "nowhere", "--out", copy, "--overwrite", expect=2)
    assert (copy / "bundle" / "model.onnx").exists()


def test_a_test_split_that_was_exchanged_is_not_believed(run: Path, tmp_path: Path, cache: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    text = (copy / "splits.csv").read_text(encoding="utf-8")
    text = text.replace(",test,", ",aside,").replace(",train,", ",test,").replace(",aside,", ",train,")
    (copy / "splits.csv").write_text(text, encoding="utf-8")
    before = (copy / "run.json").read_bytes()
    assert "splits.csv was changed" in run_snellen("evaluate", copy, "--cache", cache, expect=2).stderr
    assert (copy / "run.json").read_bytes() == before  # no opening was counted


def test_demo_draws_a_small_cohort_without_training(tmp_path: Path) -> None:
    done = run_snellen("demo", "--no-train", "--kind", "fundus", "--patients", "10", "--out", tmp_path / "try")
    cohort = tmp_path / "try" / "synthetic-fundus"
    assert f"snellen train {cohort}" in done.stdout
    assert len({path.name.split("_")[2] for path in cohort.rglob("*.*")}) == 10
    assert not (tmp_path / "try" / "run").exists()
