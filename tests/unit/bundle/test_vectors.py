"""The drawn inputs say on any machine whether pixels and probabilities come out as they did here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import Delivered, write_plain_graph
from pictures import make_preprocess
from snellen.bundle.vectors import draw_inputs, write_vectors
from snellen.imaging.preprocess import preprocess_picture
from snellen.imaging.readers import read_picture
from snellen.inference.load import load_bundle
from snellen.inference.session import GraphSession

NAMES = ("grey.png", "disc.png", "ramp.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Vectors of a plain graph."""
    path = write_plain_graph(tmp_path / "model.onnx", np.eye(3, 2, dtype=np.float32), np.zeros(2, np.float32))
    write_vectors(GraphSession(path, threads=1), make_preprocess(size=8), tmp_path / "vectors")
    return tmp_path / "vectors"


def read(folder: Path, name: str) -> np.ndarray:
    with np.load(folder / "expected.npz", allow_pickle=False) as stored:
        return np.asarray(stored[name])


def test_inputs_are_drawn_the_same_each_time() -> None:
    assert draw_inputs() == draw_inputs()


def test_inputs_are_grey_and_colour_of_several_shapes() -> None:
    shapes = [read_picture(data).pixels.shape for data in draw_inputs().values()]
    assert shapes == [(260, 200), (300, 400, 3), (300, 400, 3)]


def test_disc_has_a_black_border() -> None:
    pixels = read_picture(draw_inputs()["disc.png"]).pixels
    assert (pixels[:, :50].max(), pixels[150, 200].max() > 60) == (0, True)


def test_vectors_write_every_input(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*NAMES, "expected.npz"}


def test_vectors_name_their_inputs_in_order(folder: Path) -> None:
    assert read(folder, "names").tolist() == list(NAMES)


def test_vectors_keep_what_preprocessing_makes(folder: Path) -> None:
    expected = [preprocess_picture(folder / name, make_preprocess(size=8))[0] for name in NAMES]
    assert np.array_equal(read(folder, "pixels"), np.stack(expected))


def test_vectors_keep_what_the_graph_says(folder: Path) -> None:
    # logits are mean red and mean green over 255
    mean = read(folder, "pixels").mean((1, 2))[:, :2] / 255
    expected = np.exp(mean) / np.exp(mean).sum(1, keepdims=True)
    np.testing.assert_allclose(read(folder, "probabilities"), expected, atol=1e-6)  # float32


def test_vectors_differ_from_each_other(folder: Path) -> None:
    assert len(np.unique(read(folder, "probabilities")[:, 0])) == 3


def test_bundle_predicts_its_vectors_as_written(delivered: Delivered) -> None:
    folder = delivered.folder / "vectors"
    found = load_bundle(delivered.folder, threads=1).predict([folder / name for name in NAMES])
    rows = [list(row.probabilities.values()) for row in found]
    # the same machine and runtime: at most the rounding of float32
    np.testing.assert_allclose(rows, read(folder, "probabilities"), atol=1e-6)


def test_vectors_hold_a_deep_input_where_the_model_has_a_window(folder: Path, tmp_path: Path) -> None:
    plan = make_preprocess(size=8, window=(100.0, 4000.0))
    write_vectors(GraphSession(folder.parent / "model.onnx", threads=1), plan, tmp_path / "deep")
    assert read(tmp_path / "deep", "names").tolist() == [*NAMES, "deep.png"]
    expected = preprocess_picture(tmp_path / "deep" / "deep.png", plan)[0]
    assert np.array_equal(read(tmp_path / "deep", "pixels")[3], expected)
    assert np.ptp(expected) > 200
