"""The page of a study says what was found, how far to believe it, and lets no name become markup."""

from __future__ import annotations

import re
from typing import Any

import pytest

from snellen.evaluation.tune_page import TunePage, describe_value, judge, render_tuning, shorten_keys
from snellen.planning.recipe_files import load_recipe
from snellen.planning.tune_space import read_space
from snellen.records.run import DataRequest
from snellen.records.tuning import TrialRecord, TuneRecord, TuneRequest

DECAY = "training.stages.0.weight_decay"
HOSTILE = "<script>alert(1)</script>"


def make_trial(number: int, value: float | None, **more: Any) -> TrialRecord:
    parameters = {"training.stages.0.optimizer": "lbfgs", DECAY: 0.01 * (number + 1), "augment.views": number % 3}
    defaults: dict[str, Any] = {"state": "complete", "spread": 0.01, "parameters": parameters, "seconds": 1.0}
    return TrialRecord(number=number, value=value, **{**defaults, **more})


def make_record(trials: list[TrialRecord], as_it_is: float | None = 0.8, **more: Any) -> TuneRecord:
    complete = [trial for trial in trials if trial.state == "complete"]
    best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
    found: dict[str, Any] = {
        "state": "finished",
        "request": TuneRequest(source=DataRequest(data="/data/eyes")),
        "command": "snellen tune /data/eyes --out tuned",
        "train_command": "snellen train /data/eyes --recipe tuned/best.toml --seed 0",
        "page": "tuned/tune.html",
        "study": "q", "question_sha256": "0", "recipe_sha256": "0", "recipe_name": "auto",
        "metric": "auc", "direction": "maximize", "n_folds": 3, "n_samples": 100, "n_patients": 50,
        "n_test_untouched": 20,
        "space": read_space(load_recipe("auto")).dimensions,
        "recipe_as_it_is": None if as_it_is is None else TrialRecord(
            number=-1, state="complete", value=as_it_is, spread=0.01
        ),
        "best": best,
        "n_trials": {"complete": len(complete)},
        "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return TuneRecord.model_validate({**found, **more})


def render(trials: list[TrialRecord], **more: Any) -> str:
    return render_tuning(TunePage(make_record(trials, **more), trials, HOSTILE, ("normal", HOSTILE), "1.0"))


TRIALS = [make_trial(number, 0.8 + 0.01 * number) for number in range(12)]


def test_page_names_value_baseline_command_and_warnings() -> None:
    page = render([*TRIALS, make_trial(12, 0.5, state="pruned")], importances={DECAY: 0.9, "augment.views": 0.1})
    for part in ("0.9100", "0.8000", "best.toml --seed 0", "optimistic", "20 pictures, not touched", "90\u00a0%"):
        assert part in page
    assert page.count('class="plot"') >= 4
    assert render([*TRIALS]) == render([*TRIALS])


def test_page_escapes_names_and_refers_to_nothing() -> None:
    page = render([*TRIALS, make_trial(12, None, state="failed", reason=HOSTILE)])
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)


def test_page_of_a_study_without_a_complete_trial_says_so() -> None:
    page = render([make_trial(0, 0.5, state="pruned")], as_it_is=None)
    assert "No trial is complete yet" in page
    assert 'class="plot"' not in page


@pytest.mark.parametrize(
    ("as_it_is", "said"),
    [(0.8, "better than the recipe as it is"), (0.95, "which no trial beat"), (0.909, "it may be chance")],
)
def test_verdict_compares_with_the_unchanged_recipe(as_it_is: float, said: str) -> None:
    assert said in judge(make_record(TRIALS, as_it_is=as_it_is))


def test_page_tells_to_train_what_the_verdict_tells_to_keep() -> None:
    kept, chosen = render(TRIALS, as_it_is=0.95), render(TRIALS, as_it_is=0.8)
    assert "best.toml is the recipe as it is" in kept
    assert "Train with the recipe as it is" in kept
    assert "best trial’s recipe" not in kept
    assert "best trial’s recipe" in chosen
    assert "recipe as it is, which" not in chosen


def test_verdict_knows_that_a_loss_is_to_be_small() -> None:
    record = make_record(TRIALS[:1], as_it_is=0.9, metric="log_loss", direction="minimize")
    assert "0.1000 better" in judge(record)


def test_values_and_keys_are_called_as_people_say_them() -> None:
    head = [{"type": "global_avg_pool"}, {"type": "batch_norm"}, {"type": "dense", "units": 64}]
    assert describe_value(head) == "batch norm · dense 64"
    assert describe_value([{"type": "global_avg_pool"}]) == "linear"
    assert (describe_value(True), describe_value(0.0123456), describe_value("adamw")) == ("yes", "0.0123", "adamw")
    assert shorten_keys([DECAY, "model.head"]) == {DECAY: "weight_decay", "model.head": "model.head"}
