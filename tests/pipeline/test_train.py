"""`snellen train` end to end on phantoms: what it leaves, that it repeats, resumes, and leaks nothing."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import leak_alarm
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline_tools import SMALL, run_snellen
from snellen.inference.load import check_vectors
from snellen.ingest.phantom import PhantomSpec, write_cohort
from snellen.records.evaluation import Evaluation
from snellen.records.run import DataRequest, TrainRequest
from snellen.runs import open_run

FILES = (
    "recipe.toml", "plan.json", "fingerprint.json", "cohort.csv", "splits.csv", "audit.json", "run.json", "run.log",
    "metrics.jsonl", "scores-val.csv", "scores-test.csv", "evaluation-val.json", "evaluation.json", "report.html",
    "bundle/model.onnx", "bundle/weights.safetensors", "bundle/manifest.json", "bundle/gate.npz",
    "bundle/MODEL_CARD.md",
    "bundle/parity.json", "bundle/NOTICE", "bundle/vectors/expected.npz",
)  # fmt: skip
METRICS = {
    "accuracy", "balanced_accuracy", "auc", "f1", "precision", "recall", "f1_weighted", "precision_weighted",
    "recall_weighted", "mcc", "brier", "log_loss", "ece", "ece_adaptive", "average_precision", "brier_skill",
}  # fmt: skip


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", FILES)
def test_run_leaves_what_the_design_lists(run: Path, name: str) -> None:
    assert (run / name).stat().st_size > 0


def test_evaluation_has_every_metric_with_an_interval(run: Path) -> None:
    found = json.loads((run / "evaluation.json").read_text())
    assert set(found["metrics"]) == METRICS
    for name, estimate in found["metrics"].items():
        if name in ("ece", "ece_adaptive"):  # a resampled error is larger than the error: it stands beside its chance
            assert (estimate["low"], estimate["high"]) == (None, None)
        else:
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert set(found["baselines"]) == {"majority_class", "linear_probe"}
    assert found["test_opened"] == 1


def test_notes_say_what_the_report_says_before_the_numbers(run: Path) -> None:
    notes = json.loads((run / "evaluation.json").read_text())["notes"]
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    few = next(note for note in notes if re.match(r"Only \d+ patients in the test set", note))
    assert page.count(few.partition(".")[0]) == 1


def test_model_learns_what_the_phantom_shows(run: Path) -> None:
    assert open_run(run).evaluation.metrics["auc"].value > 0.75  # chance is 0.5; about 0.9 here


def test_no_patient_is_in_two_splits(run: Path) -> None:
    where: dict[str, set[str]] = {}
    for row in read_rows(run / "splits.csv"):
        where.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(parts) == 1 for parts in where.values())
    assert len(where) == 100


def test_reported_auc_is_that_of_the_scores_file(run: Path) -> None:
    evaluation = open_run(run).evaluation
    rows = read_rows(run / "scores-test.csv")
    truth = [row["label"] == evaluation.positive for row in rows]
    scores = [float(row[f"probability_{evaluation.positive}"]) for row in rows]
    # the file keeps seven digits
    assert roc_auc_score(truth, scores) == pytest.approx(evaluation.metrics["auc"].value, abs=1e-6)


def test_predict_says_what_the_scores_file_says(run: Path, cohort: Path) -> None:
    rows = read_rows(run / "scores-test.csv")
    predictor = open_run(run).load()
    predictions = predictor.predict([cohort / row["sample"] for row in rows])
    for row, prediction in zip(rows, predictions, strict=True):
        expected = [float(row[f"probability_{name}"]) for name in predictor.classes]
        # one path: cached and freshly read pixels are equal, ONNX Runtime's batches may differ in the last bits
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-6)


def test_vectors_hold_on_this_machine(run: Path) -> None:
    assert check_vectors(open_run(run).load()) < 1e-6  # the machine that wrote them


def test_parity_is_recorded_within_tolerance(run: Path) -> None:
    parity = json.loads((run / "bundle" / "parity.json").read_text())
    assert parity["is_within"]
    assert parity["n_samples"] == 64
    assert parity["n_decisions_changed"] == 0


def test_plan_is_concrete_and_explains_itself(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    decisions = plan.pop("decisions")
    plan["model"].pop("weights")  # where weights are looked for; what was found is in run.json
    assert '"auto"' not in json.dumps({key: value for key, value in plan.items() if key != "recipe"})
    assert all(decision["reason"] for decision in decisions)


def test_same_seed_gives_the_same_scores_without_the_cache(run: Path, cohort: Path, tmp_path: Path) -> None:
    run_snellen("train", cohort, "--out", tmp_path / "again", "--cache", tmp_path / "cache", *SMALL)
    assert (tmp_path / "again" / "scores-test.csv").read_bytes() == (run / "scores-test.csv").read_bytes()


def test_other_seed_draws_other_splits(run: Path, cohort: Path, cache: Path, tmp_path: Path) -> None:
    run_snellen("plan", cohort, "--out", tmp_path / "plan", "--cache", cache, "--seed", "5", *SMALL)
    assert (tmp_path / "plan" / "splits.csv").read_bytes() != (run / "splits.csv").read_bytes()


def test_killed_run_resumes_to_the_same_scores(run: Path, cohort: Path, tmp_path: Path) -> None:
    folder, cache = tmp_path / "killed", tmp_path / "cache"
    command = ["train", str(cohort), "--out", str(folder), "--cache", str(cache), *SMALL]
    process = subprocess.Popen([sys.executable, "-m", "snellen", *command], stderr=subprocess.DEVNULL)
    tick = threading.Event()
    while process.poll() is None and not list(cache.glob("features/*/done.npy")):
        tick.wait(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (folder / "evaluation.json").exists()
    run_snellen("train", "--resume", folder)
    assert (folder / "scores-test.csv").read_bytes() == (run / "scores-test.csv").read_bytes()
    assert open_run(folder).record.test_opened == 1


def test_finished_run_is_not_resumed(run: Path) -> None:
    assert "is finished" in run_snellen("train", "--resume", run, expect=2).stderr


def test_no_test_keeps_the_test_split_shut(cohort: Path, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shut"
    run_snellen("train", cohort, "--out", folder, "--cache", cache, "--no-test", *SMALL)
    assert not (folder / "evaluation.json").exists()
    assert not (folder / "scores-test.csv").exists()
    assert (folder / "report.html").exists()
    run_snellen("evaluate", folder, "--split", "test")
    assert open_run(folder).record.test_opened == 1


def test_existing_out_is_refused_and_foreign_folders_are_never_emptied(
    cohort: Path, cache: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter1.txt").write_text("years of work")
    for extra in ((), ("--overwrite",)):
        run_snellen("train", cohort, "--out", mine, "--cache", cache, *extra, expect=2)
    assert (mine / "chapter1.txt").read_text() == "years of work"


def test_bad_files_are_set_aside_and_the_rest_goes_on(cohort: Path, cache: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(cohort, data)
    good = sorted((data / "normal").iterdir())
    good[0].write_bytes(good[0].read_bytes()[:200])
    (data / "normal" / "empty.png").write_bytes(b"")
    (data / "cysts" / "notes.jpg").write_text("no picture")
    run_snellen("train", data, "--out", tmp_path / "run", "--cache", cache, *SMALL)
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert audit["n_set_aside"] == 3
    issue = next(issue for issue in audit["issues"] if issue["code"] == "unreadable_picture")
    assert set(issue["samples"]) == {f"normal/{good[0].name}", "normal/empty.png", "cysts/notes.jpg"}
    report = (tmp_path / "run" / "report.html").read_text()
    assert "notes.jpg" in report


def test_permuted_labels_teach_nothing(tmp_path: Path) -> None:
    """The leak alarm: labels permuted by patient, copies moving with them."""
    folder = tmp_path / "phantom"
    spec = PhantomSpec(kind="oct", n_patients=600, size_px=48, classes=("normal", "cysts"))
    write_cohort(spec, folder)
    for number, path in enumerate(sorted((folder / "normal").iterdir())[:40]):
        shutil.copy(path, folder / "normal" / f"synthetic_oct_P9{number:03}_left_1.png")  # copies under other patients
    small = ("preprocess.size=48", "augment.views=1", "data.copies=exact")
    source = DataRequest(data=str(folder), cache=str(tmp_path / "cache"))
    aucs = leak_alarm.measure(TrainRequest(source=source, settings=small), 20)
    # the standard error of this mean is about 0.015
    assert abs(np.mean(aucs) - 0.5) <= 0.03
    # and the alarm rings: the same permuted labels, with pictures of a patient on both sides of the split
    leaky = TrainRequest(source=source.model_copy(update={"patients": "none"}), settings=small)
    aucs = leak_alarm.measure(leaky, 5, family_of=lambda sample: sample.name.split("_")[2])
    assert np.mean(aucs) > 0.53


def test_external_data_leaves_out_what_was_trained_on(run: Path, cohort: Path, cache: Path, tmp_path: Path) -> None:
    run_snellen("evaluate", run / "bundle", cohort, "--out", tmp_path / "external", "--cache", cache, "--by", "eye")
    found = Evaluation.model_validate_json((tmp_path / "external" / "evaluation.json").read_text())
    splits = read_rows(run / "splits.csv")
    assert found.n == sum(row["split"] == "test" for row in splits)
    assert any("left out" in note for note in found.notes)
    assert (tmp_path / "external" / "report.html").exists()
    assert (tmp_path / "external" / "scores.csv").exists()
    assert [part.value for part in found.subgroups] == ["L", "R"]
    assert sum(part.n for part in found.subgroups) == found.n
    assert found.prevalence_shift is not None
    counts = Counter(row["label"] for row in splits if row["split"] == "test")
    assert found.prevalence_shift.here == {name: counts[name] / found.n for name in found.classes}
    whole = ("--out", tmp_path / "patients", "--cache", cache, "--by", "eye", "--unit", "patient")
    run_snellen("evaluate", run / "bundle", cohort, *whole)
    joined = Evaluation.model_validate_json((tmp_path / "patients" / "evaluation.json").read_text())
    assert (joined.unit, joined.n, joined.n_pictures) == ("patient", found.n_patients, found.n)
    assert joined.prevalence_shift is not None
    assert sum(each.n for each in joined.per_class.values()) == found.n_patients
    assert any("Measured by patient" in note for note in joined.notes)
    # the same pictures scored by the same bundle: nothing differs
    compared = json.loads(run_snellen("compare", run, tmp_path / "external", "--json").stdout)
    assert (compared["n"], compared["matched_by"]) == (found.n, "name")
    assert {each["better"] for each in compared["metrics"].values()} == {"equal"}
