"""A bundle is complete, hashed and equal to the trained network, or it is not delivered."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from models import (
    CALIBRATED,
    DEFAULT_POINT,
    Delivered,
    deliver_plain_bundle,
    draw_pixels,
    make_plan,
    write_plain_graph,
)
from pictures import make_preprocess, make_sample
from snellen.bundle.write import compute_parity, finish_bundle, require_parity, write_graph
from snellen.core.errors import ParityError
from snellen.core.storage import compute_sha256
from snellen.inference.known import find_own_test, find_trained_on
from snellen.inference.load import load_bundle
from snellen.inference.session import GraphSession
from snellen.modeling.architectures import Classifier
from snellen.records.bundle import INPUT, MANIFEST_SCHEMA, OUTPUTS, Manifest, Parity


def perturb(classifier: Classifier, value: float) -> Classifier:
    """The same network with one number of its last layer moved by `value`."""
    moved = copy.deepcopy(classifier)
    last = moved.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[0] += value
    return moved


def test_output_names_are_frozen() -> None:
    assert OUTPUTS == ("probabilities", "logits", "embedding", "feature_map")


def test_input_name_is_frozen() -> None:
    assert INPUT == "pixels"


def test_manifest_schema_is_frozen() -> None:
    assert MANIFEST_SCHEMA == 1


def test_manifest_keys_are_those_of_schema_1(delivered: Delivered) -> None:
    # others read them: a change here needs another MANIFEST_SCHEMA, but for a new key that older manifests may lack
    assert list(json.loads((delivered.folder / "manifest.json").read_text())) == [
        "schema_version", "name", "created", "snellen_version", "task", "classes", "positive", "ordered",
        "decision", "merge",
        "input", "outputs", "n_members", "preprocess", "calibration", "thresholds", "conformal",
        "abstain_by", "backbone", "weights", "trained_on",
        "prevalence", "tuned_share", "multiplications", "distilled_from", "plan_sha256", "intended_use", "files",
    ]  # fmt: skip


def test_bundle_holds_the_files_of_the_contract(delivered: Delivered) -> None:
    expected = {"model.onnx", "weights.safetensors", "manifest.json", "gate.npz", "MODEL_CARD.md", "parity.json"}
    found = {path.relative_to(delivered.folder).as_posix() for path in delivered.folder.rglob("*") if path.is_file()}
    assert expected | {"vectors/expected.npz", "NOTICE", "baselines.npz"} <= found


def test_manifest_lists_every_other_file(delivered: Delivered) -> None:
    found = {path.relative_to(delivered.folder).as_posix() for path in delivered.folder.rglob("*") if path.is_file()}
    assert set(delivered.manifest.files) == found - {"manifest.json"}


def test_manifest_holds_the_hash_of_every_file(delivered: Delivered) -> None:
    wrong = [
        name for name, digest in delivered.manifest.files.items() if compute_sha256(delivered.folder / name) != digest
    ]
    assert wrong == []


def test_returned_manifest_is_the_one_on_disk(delivered: Delivered) -> None:
    on_disk = Manifest.model_validate_json((delivered.folder / "manifest.json").read_text(encoding="utf-8"))
    assert on_disk == delivered.manifest


def test_manifest_tells_what_the_graph_takes(delivered: Delivered) -> None:
    given = delivered.manifest.input
    assert (given.name, given.dtype, given.layout) == ("pixels", "uint8", "NHWC")
    assert (given.height_px, given.width_px, given.channels) == (64, 64, 3)


def test_manifest_tells_task_classes_and_positive(delivered: Delivered) -> None:
    manifest = delivered.manifest
    assert (manifest.task, manifest.classes, manifest.positive) == ("binary", ("healthy", "sick"), "sick")


def test_manifest_carries_calibration_and_thresholds(delivered: Delivered) -> None:
    assert (delivered.manifest.calibration, delivered.manifest.thresholds) == (CALIBRATED, (DEFAULT_POINT,))


def test_manifest_counts_what_was_trained_on(delivered: Delivered) -> None:
    seen = delivered.manifest.trained_on
    assert (seen.n_samples, seen.n_patients, seen.class_counts) == (160, 40, {"healthy": 80, "sick": 80})


def test_manifest_names_how_patients_were_told(delivered: Delivered) -> None:
    assert delivered.manifest.trained_on.patient_rule == "patient column"


def test_plan_hash_changes_with_the_plan(tmp_path: Path) -> None:
    one = deliver_plain_bundle(tmp_path / "one")
    other = deliver_plain_bundle(tmp_path / "other", positive="sick")
    assert one.plan_sha256 != other.plan_sha256


def test_manifest_finds_every_training_picture_again(delivered: Delivered) -> None:
    seen = delivered.model.trained_on
    assert find_trained_on(delivered.manifest, seen) == {sample.name for sample in seen}


def test_manifest_finds_every_picture_of_its_own_test_again(delivered: Delivered) -> None:
    kept = delivered.model.held_out
    assert find_own_test(delivered.manifest, kept) == {sample.name for sample in kept}


def test_manifest_knows_a_renamed_training_picture_by_its_pixels(delivered: Delivered) -> None:
    renamed = delivered.model.trained_on[0].model_copy(update={"name": "renamed.png"})
    assert find_trained_on(delivered.manifest, [renamed]) == {"renamed.png"}


def test_manifest_does_not_take_test_for_training(delivered: Delivered) -> None:
    assert find_trained_on(delivered.manifest, delivered.model.held_out) == set()


def test_manifest_does_not_take_training_for_test(delivered: Delivered) -> None:
    assert find_own_test(delivered.manifest, delivered.model.trained_on) == set()


def test_manifest_does_not_know_another_picture(delivered: Delivered) -> None:
    other = [make_sample("never seen.png", "sick")]
    assert find_trained_on(delivered.manifest, other) | find_own_test(delivered.manifest, other) == set()


def test_manifest_keeps_no_plain_hash_of_a_picture(delivered: Delivered) -> None:
    text = (delivered.folder / "manifest.json").read_text(encoding="utf-8")
    samples = (*delivered.model.trained_on, *delivered.model.held_out)
    assert [s.name for s in samples if s.pixels_sha256[:16] in text] == []


def test_manifest_keeps_no_name_of_a_picture(delivered: Delivered) -> None:
    text = (delivered.folder / "manifest.json").read_text(encoding="utf-8")
    samples = (*delivered.model.trained_on, *delivered.model.held_out)
    assert [s.name for s in samples if f'"{s.name}"' in text or f'"{s.patient}"' in text] == []


def test_two_bundles_of_the_same_pictures_share_no_hash(tmp_path: Path) -> None:
    one, other = (deliver_plain_bundle(tmp_path / name).trained_on for name in ("one", "other"))
    assert not set(one.pixel_hashes) & set(other.pixel_hashes)


def test_pictures_with_equal_pixels_are_kept_once(tmp_path: Path) -> None:
    twins = tuple(make_sample(name, "sick", pixels_sha256="ab" * 32) for name in ("a.png", "b.png"))
    seen = deliver_plain_bundle(tmp_path, trained_on=twins).trained_on
    assert (seen.n_samples, len(seen.pixel_hashes)) == (2, 1)


def test_weights_file_equals_the_network(delivered: Delivered) -> None:
    stored, state = load_file(delivered.folder / "weights.safetensors"), delivered.model.classifier.state_dict()
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in state.items())


def test_graph_says_what_the_network_says_on_other_pictures(delivered: Delivered) -> None:
    pixels = draw_pixels(5, 64, seed=77)
    with torch.no_grad():
        expected = [part.numpy() for part in delivered.model.classifier(torch.from_numpy(pixels))]
    names = delivered.manifest.outputs
    assert names == (*OUTPUTS, "class_map")
    found = delivered.session.run(pixels, names)
    for name, value in zip(names, expected, strict=True):
        # float32 through some twenty layers: five digits
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)


def test_temperature_is_inside_the_graph(delivered: Delivered) -> None:
    found = delivered.session.run(draw_pixels(3, 64), ("probabilities", "logits"))
    raised = np.exp(found["logits"].astype(np.float64) / 1.5)
    np.testing.assert_allclose(found["probabilities"], raised / raised.sum(1, keepdims=True), atol=1e-6)  # float32


def test_bias_is_inside_the_graph(delivered: Delivered, tmp_path: Path) -> None:
    classifier = copy.deepcopy(delivered.model.classifier)
    classifier.calibrate(0.8, (0.7, -0.7))
    session = write_graph(replace(delivered.model, classifier=classifier), tmp_path)
    found = session.run(draw_pixels(3, 64), ("probabilities", "logits"))
    raised = np.exp(found["logits"].astype(np.float64) / 0.8 + np.array([0.7, -0.7]))
    np.testing.assert_allclose(found["probabilities"], raised / raised.sum(1, keepdims=True), atol=1e-6)  # float32
    with safe_open(tmp_path / "weights.safetensors", "np") as stored:
        np.testing.assert_allclose(stored.get_tensor("bias"), [0.7, -0.7])


def test_manifest_carries_the_prevalence_of_training(tmp_path: Path) -> None:
    shares = {"healthy": 0.9, "sick": 0.1}
    assert deliver_plain_bundle(tmp_path, prevalence=shares).prevalence == shares
    assert load_bundle(tmp_path).manifest.prevalence == shares


def test_baselines_are_stored_as_fitted(delivered: Delivered) -> None:
    with np.load(delivered.folder / "baselines.npz", allow_pickle=False) as stored:
        found = {name: stored[name] for name in ("prior", "weight", "bias")}
    assert all(np.array_equal(found[name], value) for name, value in delivered.model.baselines.items())


def test_parity_is_written_beside_the_graph(delivered: Delivered) -> None:
    parity = Parity.model_validate_json((delivered.folder / "parity.json").read_text(encoding="utf-8"))
    assert (parity.reference, parity.candidate, parity.n_samples, parity.is_within) == (
        "torch",
        "onnxruntime",
        64,
        True,
    )


def test_parity_of_the_exported_network_is_within(delivered: Delivered) -> None:
    parity = compute_parity(delivered.model.classifier, delivered.session, delivered.train_pixels[:16])
    assert (parity.is_within, parity.n_decisions_changed) == (True, 0)


def test_parity_looks_at_no_more_than_64_pictures(delivered: Delivered) -> None:
    assert compute_parity(delivered.model.classifier, delivered.session, delivered.train_pixels).n_samples == 64


def test_parity_measures_the_difference_of_a_moved_weight(delivered: Delivered) -> None:
    pixels = delivered.train_pixels[:8]
    parity = compute_parity(perturb(delivered.model.classifier, 0.5), delivered.session, pixels)
    largest = max(1.0, float(np.abs(delivered.session.run(pixels, ("logits",))["logits"]).max()))
    # logits of a few units in float32; the largest of the moved network may itself be half a unit larger
    assert 0.5 / (largest + 0.5) - 1e-4 <= parity.max_abs_logit <= 0.5 / max(1.0, largest - 0.5) + 1e-4


@pytest.mark.parametrize("value", [0.01, 10.0])
def test_network_changed_after_its_export_is_refused(delivered: Delivered, value: float) -> None:
    parity = compute_parity(perturb(delivered.model.classifier, value), delivered.session, delivered.train_pixels[:8])
    with pytest.raises(ParityError, match="Nothing was delivered"):
        require_parity(parity)


def test_parity_counts_changed_decisions(delivered: Delivered) -> None:
    # towards class 0 by far: every picture that the graph calls class 1 changes
    pixels = delivered.train_pixels[:20]
    called = delivered.session.run(pixels, ("probabilities",))["probabilities"].argmax(1)
    parity = compute_parity(perturb(delivered.model.classifier, 1e3), delivered.session, pixels)
    assert parity.n_decisions_changed == (called == 1).sum()


def test_network_without_numbers_is_refused(delivered: Delivered) -> None:
    parity = compute_parity(perturb(delivered.model.classifier, np.nan), delivered.session, delivered.train_pixels[:8])
    with pytest.raises(ParityError):
        require_parity(parity)


def test_graph_without_numbers_is_refused(delivered: Delivered, tmp_path: Path) -> None:
    path = write_plain_graph(tmp_path / "nan.onnx", np.full((3, 2), np.nan, np.float32), np.zeros(2, np.float32))
    session = GraphSession(path, threads=1)
    with pytest.raises(ParityError):
        require_parity(compute_parity(delivered.model.classifier, session, delivered.train_pixels[:8]))


def test_graph_whose_probabilities_are_no_numbers_is_refused(delivered: Delivered, tmp_path: Path) -> None:
    # its logits are finite: the temperature is not
    weight, bias = np.zeros((3, 2), np.float32), np.zeros(2, np.float32)
    session = GraphSession(write_plain_graph(tmp_path / "nan.onnx", weight, bias, np.nan), threads=1)
    with pytest.raises(ParityError):
        require_parity(compute_parity(delivered.model.classifier, session, delivered.train_pixels[:8]))


def test_bundle_with_any_file_added_is_listed_whole(tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "note.txt").write_text("kept")
    assert "extra/note.txt" in deliver_plain_bundle(tmp_path).files


def test_bundle_written_over_an_older_one_opens(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    newer = deliver_plain_bundle(tmp_path, name="newer")
    assert load_bundle(tmp_path).manifest == newer


def test_multiclass_bundle_has_no_thresholds(tmp_path: Path) -> None:
    assert deliver_plain_bundle(tmp_path, ("a", "b", "c")).thresholds == ()


def test_grey_plan_gives_a_bundle_of_one_channel(delivered: Delivered, tmp_path: Path) -> None:
    plan = make_plan(preprocess=delivered.model.plan.preprocess.model_copy(update={"channels": 1, "size": 16}))
    path = write_plain_graph(tmp_path / "model.onnx", np.zeros((1, 2), np.float32), np.zeros(2, np.float32), planes=1)
    model = replace(delivered.model, plan=plan)
    manifest = finish_bundle(model, GraphSession(path, threads=1), (), tmp_path)
    assert (manifest.input.height_px, manifest.input.channels) == (16, 1)


@pytest.mark.parametrize("rule", ["most_probable", "expected_grade"])
def test_bundle_keeps_the_rule_of_its_plan(tmp_path: Path, rule: str) -> None:
    classes = ("grade_0", "grade_1", "grade_2")
    plan = make_plan(classes, preprocess=make_preprocess(size=8))
    plan = plan.model_copy(update={"evaluation": plan.evaluation.model_copy(update={"decision": rule})})
    assert deliver_plain_bundle(tmp_path, classes, plan=plan).decision == rule
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert ("called the grade nearest to the expected grade." in card) == (rule == "expected_grade")
