"""The report says what the records say, escapes what strangers wrote, and refers to nothing outside."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

import report_inputs
from snellen.evaluation import findings, gallery, tables
from snellen.evaluation.report import ReportInputs, render_report
from snellen.evaluation.wording import format_interval, format_number
from snellen.records.evaluation import CalibrationCheck, Estimate, PrevalenceShift
from snellen.records.plan import Decision
from snellen.records.run import DistilledRecord, StageOutcome

HOSTILE = "<script>alert(1)</script>"
HEADINGS = [
    "In short",
    "Result",
    "Metrics",
    "Figures",
    "Pictures",
    "Data",
    "Decisions",
    "Thresholds and calibration",
    "How to reproduce",
    "How to read the numbers",
    "Reporting checklists",
]


class _Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "srcset"}]
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data + "\n"
        if "h2" in self._open:
            self.headings[-1] += data


@pytest.fixture(scope="module")
def binary() -> ReportInputs:
    return report_inputs.build_binary()


@pytest.fixture(scope="module")
def html(binary: ReportInputs) -> str:
    return render_report(binary)


@pytest.fixture(scope="module")
def page(html: str) -> _Page:
    return _Page(html)


def test_report_has_every_part_in_order(page: _Page) -> None:
    assert page.headings == HEADINGS


def test_report_says_that_it_is_no_medical_device(page: _Page) -> None:
    assert page.text.count("Research use. Not a medical device.") == 2


def test_report_loads_nothing_from_elsewhere(html: str, page: _Page) -> None:
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "http://" not in html
    assert "https://" not in html


def test_report_needs_no_script(page: _Page) -> None:
    assert "script" not in page.tags


def test_report_escapes_hostile_names() -> None:
    hostile = report_inputs.build_minimal((HOSTILE, "a & b", '"quoted"'))

    html = render_report(replace(hostile, title=HOSTILE))

    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert HOSTILE in _Page(html).text


def test_report_escapes_hostile_text_of_every_record(binary: ReportInputs) -> None:
    assert binary.run is not None
    assert binary.audit is not None
    issue = binary.audit.issues[0].model_copy(update={"message": HOSTILE, "advice": HOSTILE, "samples": (HOSTILE,)})
    evaluation = binary.evaluation.model_copy(update={"notes": (HOSTILE,), "patient_rule": HOSTILE, "data": HOSTILE})
    changed = replace(
        binary,
        evaluation=evaluation,
        run=binary.run.model_copy(update={"command": HOSTILE, "sha256": {HOSTILE: HOSTILE}}),
        audit=binary.audit.model_copy(update={"issues": (issue,)}),
        splits=[each.model_copy(update={"reason": HOSTILE}) for each in binary.splits],
        scores=[each.model_copy(update={"sample": f"{HOSTILE}-{k}.png"}) for k, each in enumerate(binary.scores)],
    )

    assert "<script" not in render_report(changed)


def test_report_shows_every_metric_as_the_record_has_it(binary: ReportInputs, html: str) -> None:
    for estimate in binary.evaluation.metrics.values():
        assert f'<data value="{estimate.value}">{format_number(estimate.value)}</data>' in html
        assert format_interval(estimate) in html


def test_report_shows_every_class_and_operating_point(binary: ReportInputs, html: str) -> None:
    estimates = [
        getattr(each, name)
        for each in binary.evaluation.per_class.values()
        for name in ("precision", "recall", "specificity", "f1", "auc")
    ]
    for point in binary.evaluation.operating_points:
        estimates += [point.sensitivity, point.specificity, point.ppv, point.npv]

    for estimate in estimates:
        assert f'<data value="{estimate.value}">{format_number(estimate.value)}</data>' in html


def test_report_names_the_positive_class_beside_sensitivity(page: _Page) -> None:
    assert "positive: “referable DR”, threshold 0.470" in page.text
    assert "Positive class: referable DR" in page.text


def test_report_of_evaluation_and_scores_alone_has_no_empty_part() -> None:
    page = _Page(render_report(report_inputs.build_minimal()))

    assert page.headings == [each for each in HEADINGS if each not in {"Data", "Decisions"}]
    assert "None" not in page.text
    assert "Sensitivity for" not in page.text


def test_report_without_scores_leaves_pictures_out() -> None:
    page = _Page(render_report(replace(report_inputs.build_minimal(), scores=())))

    assert "Pictures" not in page.headings


def test_report_is_equal_for_equal_inputs(binary: ReportInputs, html: str) -> None:
    assert render_report(binary) == html


def test_undefined_estimate_is_a_dash() -> None:
    inputs = report_inputs.build_minimal()
    metrics = inputs.evaluation.metrics | {"auc": Estimate(value=None)}

    html = render_report(replace(inputs, evaluation=inputs.evaluation.model_copy(update={"metrics": metrics})))

    assert '<data value="">–</data>' in html
    assert "nan" not in html.lower().replace("provenance", "")
    assert format_number(float("nan")) == "–"
    assert format_interval(Estimate(value=None)) == ""


def test_negative_interval_is_readable() -> None:
    assert format_interval(Estimate(value=0.0, low=-0.1, high=0.1)) == "−0.100 to 0.100"


def test_worst_errors_are_wrong_and_sorted_by_confidence(binary: ReportInputs) -> None:
    classes = binary.evaluation.classes

    chosen = gallery.choose_worst_errors(binary.scores, classes)

    confidences = [score.probabilities[classes.index(score.prediction)] for score in chosen]
    wrong = [score for score in binary.scores if score.prediction != score.label]
    assert len(chosen) == gallery.N_ERRORS
    assert all(score.prediction != score.label for score in chosen)
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] == max(each.probabilities[classes.index(each.prediction)] for each in wrong)


def test_worst_errors_come_in_order_on_the_page(binary: ReportInputs, html: str) -> None:
    chosen = gallery.choose_worst_errors(binary.scores, binary.evaluation.classes)
    part = html[html.index("Most confident errors") : html.index("A few of every class")]

    assert re.findall(r'class="sample">([^<]+)<', part) == [score.sample for score in chosen]


def test_samples_do_not_depend_on_the_order_of_scores(binary: ReportInputs) -> None:
    classes = binary.evaluation.classes

    forward = gallery.choose_samples(binary.scores, classes)

    assert gallery.choose_samples(binary.scores[::-1], classes) == forward
    assert {name: len(chosen) for name, chosen in forward.items()} == {name: 6 for name in classes}


@pytest.mark.parametrize("shape", [(300, 400), (300, 400, 1), (300, 400, 3), (28, 28, 3)])
def test_thumbnail_is_a_small_jpeg_of_the_picture(binary: ReportInputs, shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 200, np.uint8)
    if shape[-1] == 3:
        pixels[..., 1:] = 20

    exhibit = gallery.build_exhibit(binary.scores[0], binary.evaluation.classes, lambda _: pixels)

    data = base64.b64decode(exhibit.source.removeprefix("data:image/jpeg;base64,"))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert max(decoded.shape) == min(gallery.THUMBNAIL_PX, max(shape))
    # JPEG at quality 80 keeps a plain colour to a few grey levels.
    red = decoded[..., 2].mean()
    assert red == pytest.approx(200, abs=8)
    assert decoded[..., 0].mean() == pytest.approx(20 if shape[-1] == 3 else 200, abs=8)


def test_picture_that_is_not_at_hand_leaves_a_neutral_box() -> None:
    inputs = report_inputs.build_minimal()

    html = render_report(inputs)

    assert "<img" not in html
    assert html.count('class="no-picture"') == gallery.N_ERRORS + 3 * gallery.N_OF_A_CLASS


def test_report_stays_below_two_megabytes_with_large_pictures() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    inputs = replace(report_inputs.build_ordinal(), load_thumbnail=lambda _: noise)

    assert len(render_report(inputs)) < 2_000_000


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (
            {"patient_rule": "one patient a picture, as asked"},
            "Which pictures belong to one patient is not known",
        ),
        (
            {"patient_rule": "a: 9 pictures; one patient a picture: 3 pictures"},
            "Some pictures carry no patient",
        ),
        ({"test_opened": 3}, "The test split has been opened 3 times."),
        ({"n_patients": 12}, "Only 12 patients in the test set."),
        ({"n_failed": 2}, "2 pictures could not be read"),
        ({"split": "val"}, "measured on validation pictures"),
        ({"split": "train"}, "the model learned from"),
        ({"notes": ("The lamp was broken.",)}, "The lamp was broken."),
    ],
)
def test_report_warns(update: dict[str, object], said: str) -> None:
    inputs = report_inputs.build_minimal()

    page = _Page(render_report(replace(inputs, evaluation=inputs.evaluation.model_copy(update=update))))

    assert "Before you believe the numbers" in page.text
    assert said in page.text


def test_sound_evaluation_brings_no_warning() -> None:
    assert findings.collect_notices(report_inputs.build_minimal().evaluation, None) == []


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (Estimate(value=0.86, low=0.72, high=0.99), "too extreme here: calibration slope 0.86, interval 0.72 to 0.99"),
        (Estimate(value=1.4, low=1.1, high=1.7), "not extreme enough here"),
        (Estimate(value=0.9, low=0.7, high=1.1), ""),
        (Estimate(value=None), ""),
    ],
)
def test_slope_that_leaves_out_one_is_told_before_the_numbers(slope: Estimate, said: str) -> None:
    evaluation = report_inputs.build_minimal().evaluation
    check = CalibrationCheck(ece=0.03, ece_adaptive=0.03, brier=0.1, log_loss=0.2, expected={}, slope=slope, lines={})
    calibration = evaluation.calibration.model_copy(update={"check": check})
    notices = findings.collect_notices(evaluation.model_copy(update={"calibration": calibration}), None)
    assert len(notices) == bool(said)
    assert not said or said in notices[0].text


def test_unknown_patients_are_counted_by_class() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    update = {"patient_rule": "a: 9 pictures; one patient a picture: 3 pictures", "unknown_patients": {"dog": 3}}
    (notice,) = findings.collect_notices(evaluation.model_copy(update=update), None)
    assert f"Of those measured here they are 3 of {evaluation.per_class['dog'].n} “dog”." in notice.text


def test_that_the_data_are_the_bundle_s_own_test_split_comes_first(binary: ReportInputs) -> None:
    own = "30 pictures are of the bundle's own test split: this is no external test, but one more opening of it."
    update = {"n_patients": 12, "patient_rule": "picture-level", "notes": ("2 pictures were left out.", own)}
    first = findings.collect_notices(binary.evaluation.model_copy(update=update), None)[0]
    assert (first.severity, first.text) == ("severe", own)


def test_severe_issues_of_the_audit_come_before_notes(binary: ReportInputs) -> None:
    evaluation = binary.evaluation.model_copy(update={"n_patients": 12})

    notices = findings.collect_notices(evaluation, binary.audit)

    assert [notice.severity for notice in notices] == ["severe", "warning"]
    assert notices[0].text == "One picture is stored twice with different labels."


def test_accuracy_is_told_with_the_mixture_it_holds_for() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    told = " ".join(findings.describe_result(evaluation))
    assert f"mixed as here (“cat” {100 * evaluation.per_class['cat'].n / evaluation.n:.0f}\u00a0%, “dog”" in told


def test_better_baseline_is_told() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    probe = {"linear_probe": {"auc": Estimate(value=0.999)}}

    notices = findings.collect_notices(evaluation.model_copy(update={"baselines": probe}), None)

    assert "A baseline does better than the model: linear probe, AUC 0.999" in notices[0].text


def test_pictures_of_one_class_have_no_better_baseline() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    one = {"confusion": ((8, 2), (0, 0)), "metrics": {"accuracy": Estimate(value=0.8)}}
    majority = {"baselines": {"majority_class": {"accuracy": Estimate(value=1.0)}}}
    told = [notice.text for notice in findings.collect_notices(evaluation.model_copy(update=one | majority), None)]
    assert not any("baseline" in text for text in told)


def test_all_splits_at_once_are_severe() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    note = "The model was trained on these pictures: the numbers say how well it remembers, not how well it works."
    notices = findings.collect_notices(evaluation.model_copy(update={"split": "all", "notes": (note,)}), None)
    assert [notice.severity for notice in notices if notice.text == note] == ["severe"]


@pytest.mark.parametrize(
    ("screening", "confirming", "told"),
    [(0.97, 0.98, []), (0.91, 0.98, ["screening"]), (0.97, 0.92, ["confirming"]), (0.95, 0.95, [])],
)
def test_point_that_does_less_than_the_default_is_told(screening: float, confirming: float, told: list[str]) -> None:
    binary = report_inputs.build_binary().evaluation
    first = binary.operating_points[0]
    # of screening the sensitivity, of confirming the specificity; the default has 0.95 of both
    reached = {"balanced": (0.95, 0.95), "screening": (screening, 0.5), "confirming": (0.5, confirming)}
    points = tuple(
        first.model_copy(
            update={
                "name": name, "is_default": name == "balanced", "sensitivity": Estimate(value=sensitivity),
                "specificity": Estimate(value=specificity),
            }
        )
        for name, (sensitivity, specificity) in reached.items()
    )  # fmt: skip
    notices = findings.collect_notices(binary.model_copy(update={"operating_points": points}), None)
    found = [name for name in reached for each in notices if f"than “{name}”, whose target" in each.text]
    assert found == told


@pytest.mark.parametrize(("here", "is_told"), [(0.12, True), (0.5, False)])
def test_another_mixture_of_classes_is_told(here: float, is_told: bool) -> None:
    evaluation = report_inputs.build_minimal().evaluation
    shift = PrevalenceShift(assumed={"cat": 0.58, "dog": 0.42}, here={"cat": here, "dog": 1 - here}, reweighted={})
    notices = findings.collect_notices(evaluation.model_copy(update={"prevalence_shift": shift}), None)
    assert any("“cat” 58\u00a0% there, 12\u00a0% here" in notice.text for notice in notices) == is_told


@pytest.mark.parametrize(("auc", "is_told"), [(0.69, True), (0.7, False), (0.95, False)])
def test_auc_below_the_interval_of_validation_is_told(auc: float, is_told: bool) -> None:
    evaluation = report_inputs.build_minimal().evaluation
    before = evaluation.model_copy(update={"metrics": {"auc": Estimate(value=0.8, low=0.7, high=0.9)}})
    found = findings.add_drop(evaluation.model_copy(update={"metrics": {"auc": Estimate(value=auc)}}), before)
    notices = findings.collect_notices(found, None)
    assert any("below the interval of validation's" in notice.text for notice in notices) == is_told


@pytest.mark.parametrize(("own", "is_told"), [(0.31, True), (0.25, True), (0.2, False)])
def test_probabilities_worse_than_shares_are_told(own: float, is_told: bool) -> None:
    evaluation = report_inputs.build_minimal().evaluation
    update = {
        "metrics": {"brier": Estimate(value=own)},
        "baselines": {"majority_class": {"brier": Estimate(value=0.25)}},
    }
    told = [notice.text for notice in findings.collect_notices(evaluation.model_copy(update=update), None)]
    assert any("no better than the shares" in text for text in told) == is_told


@pytest.mark.parametrize(
    ("update", "note"),
    [
        ({"patient_rule": "one patient a picture: no rule fits"}, "Picture-level: no patients are known."),
        ({"split": "train"}, "The model was trained on these pictures: it remembers."),
        (
            {"split": "val"},
            "Calibration and operating points were chosen on the validation patients: too good.",
        ),
        ({"test_opened": 2}, "The test split of this run has been opened 2 times."),
    ],
)
def test_what_a_note_repeats_is_told_once(update: dict[str, object], note: str) -> None:
    evaluation = report_inputs.build_minimal().evaluation

    notices = findings.collect_notices(evaluation.model_copy(update=update | {"notes": (note,)}), None)

    assert len(notices) == 1
    assert notices[0].text != note


def test_note_that_nothing_else_says_is_kept() -> None:
    evaluation = report_inputs.build_minimal().evaluation
    note = "The model was trained on these pictures."

    notices = findings.collect_notices(evaluation.model_copy(update={"split": "all", "notes": (note,)}), None)

    assert [notice.text for notice in notices] == [note]


def test_notes_hold_every_notice_and_the_report_says_each_once(binary: ReportInputs) -> None:
    weak = {"linear_probe": {"auc": Estimate(value=0.999)}}
    update = {"n_patients": 12, "test_opened": 2, "baselines": weak, "notes": ("The split has been opened.", "A lamp.")}
    evaluation = binary.evaluation.model_copy(update=update)

    noted = findings.add_notices(evaluation, binary.audit)
    page = _Page(render_report(replace(binary, evaluation=noted)))

    assert [note.split(".")[0] for note in noted.notes] == [
        "One picture is stored twice with different labels",
        "The test split has been opened 2 times",
        "Only 12 patients in the test set",
        "A baseline does better than the model: linear probe, AUC 0",
        "A lamp",
    ]
    for notice in findings.collect_notices(evaluation, None):
        assert sum(notice.text in note for note in noted.notes) == 1
        assert page.text.count(notice.text) == 1
    assert findings.add_notices(noted, binary.audit) == noted


def test_guessed_positive_class_is_told(binary: ReportInputs) -> None:
    assert binary.plan is not None
    guess = Decision(key="data.positive", value="referable DR", how="rule", reason="UNDECIDED: neither name says it")
    plan = binary.plan.model_copy(update={"decisions": (guess,)})

    notices = findings.collect_notices(binary.evaluation, None, plan)
    page = _Page(render_report(replace(binary, plan=plan)))

    assert [notice.text.partition(" was")[0] for notice in notices] == ["“referable DR”"]
    assert notices[0].text in page.text


def test_probabilities_without_calibration_are_told_with_the_reason(binary: ReportInputs) -> None:
    bare = binary.evaluation.calibration.model_copy(update={"method": "none", "reason": "12 samples are few"})
    evaluation = binary.evaluation.model_copy(update={"calibration": bare})

    notices = findings.collect_notices(evaluation, None)

    assert [notice.text for notice in notices] == ["The probabilities are not calibrated: 12 samples are few."]


def test_probabilities_that_needed_no_calibration_are_no_weakness(binary: ReportInputs) -> None:
    changes = {"method": "none", "reason": "smallest log loss", "is_compared": True}
    bare = binary.evaluation.calibration.model_copy(update=changes)
    evaluation = binary.evaluation.model_copy(update={"calibration": bare})

    assert findings.collect_notices(evaluation, None) == []
    page = _Page(render_report(replace(binary, evaluation=evaluation)))
    assert "The probabilities are as the network gives them" in page.text


def test_fixed_threshold_is_not_said_to_be_chosen(page: _Page) -> None:
    assert "the more probable of the two classes; the same in every run" in page.text
    assert "highest sensitivity + specificity; chosen on validation" in page.text


def test_nothing_stands_before_and_after_a_calibration_that_was_not_made(binary: ReportInputs) -> None:
    assert tables.build_calibration(binary.evaluation).head == ("", "Before", "After")
    bare = binary.evaluation.calibration.model_copy(update={"method": "none", "ece_after": 0.081})
    table = tables.build_calibration(binary.evaluation.model_copy(update={"calibration": bare}))
    assert table.head == ("", "Not calibrated")
    assert table.rows[0] == ("Calibration error (ECE)", "0.081")


@pytest.mark.parametrize(
    ("origin", "example", "said"),
    [
        ("inferred", "1229@N_side.jpg: 1229_left.jpg", "“1229@N_side.jpg” is patient 1229 of the files called like"),
        ("inferred", "p7@pN/: a/p7/1.png", "“p7@pN/” is patient p7 of the folders called like pN/"),
        ("column", "a@b: 1.png, 2.png", ""),
        ("inferred", "", ""),
    ],
)
def test_inferred_patient_ids_are_explained_once(binary: ReportInputs, origin: str, example: str, said: str) -> None:
    assert binary.audit is not None
    rule = binary.audit.patients.model_copy(update={"origin": origin, "examples": (example,) if example else ()})
    page = _Page(render_report(replace(binary, audit=binary.audit.model_copy(update={"patients": rule}))))
    assert page.text.count("counts as another patient") == bool(said)
    assert said in page.text


def test_report_prints_command_decisions_and_reasons(binary: ReportInputs, page: _Page) -> None:
    assert binary.plan is not None
    assert binary.run is not None
    assert binary.run.command in page.text
    assert binary.evaluation.bundle_sha256 in page.text
    for decision in binary.plan.decisions:
        assert decision.key in page.text
        assert decision.reason in page.text


def test_report_counts_what_was_left_out_by_reason(binary: ReportInputs, page: _Page) -> None:
    n_left_out = sum(each.split == "left_out" for each in binary.splits)

    assert re.search(rf"its exact copy carries another label\s+{n_left_out}\s", page.text)


def test_report_without_patients_marks_every_headline_as_picture_level(binary: ReportInputs) -> None:
    evaluation = binary.evaluation
    by_picture = evaluation.model_copy(
        update={"intervals": evaluation.intervals.model_copy(update={"unit": "picture"})}
    )
    text = _Page(render_report(replace(binary, evaluation=by_picture))).text
    assert f"{evaluation.n} pictures, patients unknown (picture-level)" in text
    assert text.count("picture-level") >= 6  # the headline's five tiles and the fact of whom it is measured
    assert binary.fingerprint is not None
    assert not re.search(rf"Patients\s+{binary.fingerprint.n_patients}\s", text)
    assert re.search(rf"Patients\s+{binary.fingerprint.n_patients}\s", _Page(render_report(binary)).text)


def test_report_says_how_grades_are_decided() -> None:
    text = " ".join(_Page(render_report(report_inputs.build_ordinal())).text.split())
    assert "A picture is called the grade nearest to the expected grade; the shade" in text
    assert "a picture being called the grade nearest to the expected grade" in text
    assert "Share of pictures that are called their true grade." in text
    assert "most probable class is the true one" not in text


def test_report_of_classes_without_order_speaks_of_no_grade() -> None:
    text = " ".join(_Page(render_report(report_inputs.build_binary())).text.split())
    assert "A picture is called the most probable class; the shade" in text
    assert "expected grade" not in text


def make_distilled(**changes: object) -> DistilledRecord:
    known = {
        "n_members": 5, "is_exact": False, "n_pictures": 840, "n_views": 4, "multiplications": 4e8,
        "ensemble_multiplications": 16e8, "latency_ms": 10.0, "ensemble_latency_ms": 30.0, "same_prediction": 0.95,
        "stages": [{"stage": 1, "share": 0.6, "epochs": 12, "train_loss": 0.2}],
        "differences": {"auc": {"value": -0.004, "low": -0.021, "high": 0.013}},
    }  # fmt: skip
    return DistilledRecord.model_validate({**known, **changes})


def show_distilled(binary: ReportInputs, record: DistilledRecord, *, is_measured: bool) -> _Page:
    assert binary.run is not None
    auc = Estimate(value=0.877, low=0.8, high=0.95)
    own = binary.evaluation.model_copy(update={"metrics": {**binary.evaluation.metrics, "auc": auc}})
    run = binary.run.model_copy(update={"distilled": record})
    return _Page(render_report(replace(binary, run=run, distilled=own if is_measured else None)))


def test_distilled_network_stands_beside_the_ensemble(binary: ReportInputs) -> None:
    record = make_distilled()
    page = show_distilled(binary, record, is_measured=True)
    assert page.headings[3] == "Distilled network"
    part = page.text.partition("The ensemble and the network in its place")[2].split()
    shown = " ".join(part)
    assert "Ensemble of 5 " + format_number(binary.evaluation.metrics["auc"].value) in shown
    assert "Distilled network 0.877" in shown
    difference = record.differences["auc"]
    assert f"Difference {format_number(difference.value)} {format_interval(difference)} × 0.25 × 0.33" in shown
    assert "It learned for 12 epochs" in page.text


def test_distilled_network_without_a_test_split_is_not_praised(binary: ReportInputs) -> None:
    page = show_distilled(
        binary, make_distilled(differences={}, same_prediction=None, reason="nobody knows"), is_measured=False
    )
    assert "Nobody knows." in page.text
    assert "Difference" not in page.text.partition("The ensemble and the network")[2].partition("Figures")[0]


def test_epochs_of_the_distilled_network_are_not_drawn_as_a_member(binary: ReportInputs) -> None:
    assert binary.run is not None
    outcome = StageOutcome(
        stage=1, fold=None, share=0.6, epoch=1, n_epochs=1, before_loss=0.5, before_auc=0.8, val_loss=0.4,
        val_auc=0.9, kept=True,
    )  # fmt: skip
    run = binary.run.model_copy(update={"finetuned": (outcome,)})
    plain = [each for each in binary.epochs if each.candidate == 1]
    marked = [each.model_copy(update={"model": "distilled", "val_loss": None, "val_auc": None}) for each in plain]
    pages = [render_report(replace(binary, run=run, epochs=epochs)) for epochs in (plain, [*plain, *marked])]
    assert pages[0] == pages[1]
