"""A bundle is opened whole and unaltered, or refused by the name of what is wrong; no training library is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import Delivered, copy_bundle, deliver_plain_bundle, draw_class_pictures, edit_manifest, seal
from snellen.core.errors import BundleError, SnellenError
from snellen.core.storage import compute_sha256
from snellen.inference.load import check_vectors, load_bundle, read_manifest
from snellen.inference.predictor import Predictor
from snellen.records.bundle import MANIFEST_SCHEMA

FILES = (
    "model.onnx", "weights.safetensors", "gate.npz", "baselines.npz", "parity.json", "MODEL_CARD.md", "NOTICE",
    "vectors/expected.npz", "vectors/grey.png",
)  # fmt: skip


@pytest.fixture
def copy(delivered: Delivered, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return copy_bundle(delivered.folder, tmp_path / "bundle")


def remember(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change what the vectors are expected to become, as one who knows the manifest."""
    path = folder / "vectors" / "expected.npz"
    with np.load(path) as stored:
        content = {name: stored[name] for name in stored.files}
    change(content)
    np.savez(path, **content)
    seal(folder)


def test_bundle_opens_from_its_folder(delivered: Delivered) -> None:
    assert load_bundle(delivered.folder).manifest == delivered.manifest


def test_bundle_opens_from_the_run_that_holds_it(delivered: Delivered) -> None:
    assert load_bundle(delivered.run).folder == delivered.folder


def test_bundle_opens_from_text(delivered: Delivered) -> None:
    assert load_bundle(str(delivered.folder)).classes == ("healthy", "sick")


def test_bundle_opens_where_it_was_copied(delivered: Delivered, copy: Path) -> None:
    pixels, _ = draw_class_pictures(4, 900)
    one, other = (load_bundle(folder).score_pixels(pixels) for folder in (delivered.folder, copy))
    assert np.array_equal(one.probabilities, other.probabilities)


def write_run(folder: Path, **content: object) -> None:
    """A run's record around a bundle."""
    (folder / "run.json").write_text(json.dumps(content))


@pytest.mark.parametrize("given", [".", "bundle"])
def test_manifest_altered_within_its_finished_run_is_refused(copy: Path, given: str) -> None:
    hashes = {"bundle/manifest.json": compute_sha256(copy / "manifest.json")}
    write_run(copy.parent, state="finished", sha256=hashes)
    assert load_bundle(copy.parent / given).classes == ("healthy", "sick")
    edit_manifest(copy, classes=["sick", "healthy"])
    with pytest.raises(BundleError, match=r"manifest\.json was altered.*run\.json"):
        load_bundle(copy.parent / given)


def test_manifest_is_known_to_its_run_from_within_the_bundle(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(copy.parent, state="finished", sha256={"bundle/manifest.json": "0" * 64})
    monkeypatch.chdir(copy)
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(".")


@pytest.mark.parametrize(
    "content",
    [
        {"state": "running", "sha256": {"bundle/manifest.json": "0" * 64}},
        {"state": "finished", "sha256": {}},
        {"state": "finished", "sha256": ["odd"]},
        {"other": "program"},
    ],
)
def test_record_that_does_not_know_the_manifest_hinders_nothing(copy: Path, content: dict[str, object]) -> None:
    write_run(copy.parent, **content)
    assert load_bundle(copy).classes == ("healthy", "sick")


def test_damaged_record_hinders_nothing(copy: Path) -> None:
    (copy.parent / "run.json").write_text("{")
    assert load_bundle(copy).classes == ("healthy", "sick")


def test_predictor_knows_the_hash_of_its_manifest(delivered: Delivered) -> None:
    assert load_bundle(delivered.folder).sha256 == compute_sha256(delivered.folder / "manifest.json")


@pytest.mark.parametrize("name", FILES)
def test_altered_byte_is_refused_by_file(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        load_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(copy)


def test_all_that_is_wrong_is_told_at_once(copy: Path) -> None:
    (copy / "NOTICE").write_text("other")
    (copy / "gate.npz").unlink()
    with pytest.raises(BundleError, match=r"(?s)(gate\.npz is missing.*NOTICE was altered|NOTICE.*gate)"):
        load_bundle(copy)


@pytest.mark.parametrize("version", [0, MANIFEST_SCHEMA + 1, "1", None])
def test_other_schema_version_is_refused_by_number(copy: Path, version: object) -> None:
    edit_manifest(copy, schema_version=version)
    with pytest.raises(BundleError, match=rf"manifest\.json has schema version {version}"):
        load_bundle(copy)


@pytest.mark.parametrize("place", ["../outside.bin", "vectors/../../outside.bin"])
def test_file_outside_the_bundle_is_refused(copy: Path, place: str) -> None:
    outside = copy.parent / "outside.bin"
    outside.write_bytes(b"secret")
    edit_manifest(copy, files={**read_manifest(copy).files, place: compute_sha256(outside)})
    with pytest.raises(BundleError, match=r"outside\.bin lies outside the bundle"):
        load_bundle(copy)


def test_absolute_path_is_refused(copy: Path) -> None:
    outside = copy.parent / "outside.bin"
    outside.write_bytes(b"secret")
    edit_manifest(copy, files={**read_manifest(copy).files, str(outside): compute_sha256(outside)})
    with pytest.raises(BundleError, match="lies outside the bundle"):
        load_bundle(copy)


def test_graph_that_the_manifest_does_not_list_is_refused(copy: Path) -> None:
    files = read_manifest(copy).files
    edit_manifest(copy, files={name: digest for name, digest in files.items() if name != "model.onnx"})
    with pytest.raises(BundleError, match=r"does not list model\.onnx"):
        load_bundle(copy)


def test_sealed_file_that_is_no_graph_is_refused(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"no graph")
    seal(copy)
    with pytest.raises(BundleError, match=r"model\.onnx is no graph"):
        load_bundle(copy)


def test_graph_with_other_outputs_is_refused(copy: Path) -> None:
    content = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(content.replace(b"probabilities", b"probabilitiez"))
    seal(copy)
    with pytest.raises(BundleError, match=r"model\.onnx has other inputs or outputs"):
        load_bundle(copy)


@pytest.mark.parametrize(
    "content", ["", "{", "\x00\x01", "[]", "7", "null"], ids=["empty", "cut off", "binary", "list", "number", "null"]
)
def test_manifest_that_is_none_is_refused(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("key", "value"), [("classes", None), ("preprocess", {}), ("calibration", "none"), ("surprise", 1)], ids=str
)
def test_manifest_with_a_wrong_key_names_it(copy: Path, key: str, value: object) -> None:
    edit_manifest(copy, **{key: value})
    with pytest.raises(BundleError, match=rf"manifest\.json: {key}"):
        load_bundle(copy)


@pytest.mark.parametrize("value", [7, -0.1, float("nan"), float("inf")])
def test_threshold_that_is_no_probability_is_refused_by_place(copy: Path, value: float) -> None:
    point = {"name": "balanced", "rule": "youden", "chosen_on": "val", "is_default": True}
    edit_manifest(copy, thresholds=[{**point, "threshold": value}])
    with pytest.raises(BundleError, match=r"manifest\.json: thresholds\.0\.threshold: (?!Value error)"):
        load_bundle(copy)


def test_manifest_without_the_newer_keys_opens(copy: Path) -> None:
    content = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    del content["prevalence"], content["calibration"]["bias"], content["calibration"]["prevalence"]
    (copy / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    opened = load_bundle(copy).manifest
    assert (opened.prevalence, opened.calibration.bias, opened.calibration.prevalence) == ({}, (), {})


def test_manifest_whose_classes_do_not_fit_the_graph_is_refused(copy: Path) -> None:
    edit_manifest(copy, classes=["healthy", "sick", "other"])
    with pytest.raises(BundleError, match="classes"):
        load_bundle(copy)


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{tmp_path.name} is no bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("place", [".", "bundle"])
def test_unfinished_run_says_how_to_go_on(place: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"state": "running"}')
    with pytest.raises(BundleError, match="is not finished") as caught:
        load_bundle(tmp_path / place)
    assert f"snellen train --resume {tmp_path}" in caught.value.hint


def test_absent_folder_is_told_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent does not exist"):
        load_bundle(tmp_path / "absent")


def test_picture_is_no_bundle(delivered: Delivered) -> None:
    with pytest.raises(BundleError, match=r"grey\.png is no bundle"):
        load_bundle(delivered.folder / "vectors" / "grey.png")


def test_vectors_agree_where_they_were_written(predictor: Predictor) -> None:
    # the same machine, runtime and threads: at most the rounding of float32
    assert check_vectors(predictor) == pytest.approx(0.0, abs=1e-6)


def test_vectors_with_other_pixels_are_refused_with_the_levels(copy: Path) -> None:
    def brighten(content: dict[str, np.ndarray]) -> None:
        level = content["pixels"][0, 5, 5, 0]
        content["pixels"][0, 5, 5, 0] = level - 3 if level > 127 else level + 3

    remember(copy, brighten)
    with pytest.raises(BundleError, match="up to 3 levels"):
        check_vectors(load_bundle(copy))


def test_vectors_tell_the_largest_difference_of_probability(copy: Path) -> None:
    def move(content: dict[str, np.ndarray]) -> None:
        content["probabilities"][1, 0] += 0.25

    remember(copy, move)
    # float32 probabilities carry 7 digits
    assert check_vectors(load_bundle(copy)) == pytest.approx(0.25, abs=1e-6)


def test_bundle_without_vectors_is_told_in_words(tmp_path: Path) -> None:
    deliver_plain_bundle(tmp_path)
    (tmp_path / "vectors" / "expected.npz").unlink()
    seal(tmp_path)
    with pytest.raises(SnellenError, match="vectors"):
        check_vectors(load_bundle(tmp_path))


def test_predicting_loads_no_training_library(delivered: Delivered) -> None:
    program = """
import json, sys
from snellen.inference.load import load_bundle
folder = sys.argv[1]
(found,) = load_bundle(folder).predict([folder + "/vectors/ramp.jpg"])
heavy = ("torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "matplotlib", "jinja2", "onnx", "safetensors")
print(json.dumps({"prediction": found.prediction, "loaded": [name for name in heavy if name in sys.modules]}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(delivered.folder)], capture_output=True, text=True, check=True
    )
    expected = load_bundle(delivered.folder).predict([delivered.folder / "vectors" / "ramp.jpg"])[0].prediction
    assert json.loads(done.stdout) == {"prediction": expected, "loaded": []}


def test_public_load_opens_bundle_without_training_library(delivered: Delivered) -> None:
    program = """
import sys, snellen
print(snellen.load(sys.argv[1]).classes, "torch" in sys.modules, "sklearn" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(delivered.folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "('healthy', 'sick') False False"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"positive": "suck"}, "none of the classes"),
        ({"merge": {"heaxthy": ["a"]}}, "none of the classes"),
        ({"input": {"height_px": 8, "width_px": 8, "channels": 3}}, "not what preprocessing makes"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(copy: Path, change: dict[str, object], told: str) -> None:
    edit_manifest(copy, **change)
    with pytest.raises(BundleError, match=told):
        load_bundle(copy)


def test_manifest_of_an_impossible_size_is_refused(copy: Path) -> None:
    preprocess = json.loads((copy / "manifest.json").read_text())["preprocess"]
    edit_manifest(copy, preprocess={**preprocess, "size": -8})
    with pytest.raises(BundleError, match="size"):
        load_bundle(copy)
