"""A picture gets one answer, whatever form it comes in and whatever comes with it."""

from __future__ import annotations

import io
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import CLASSES, deliver_plain_bundle, draw_class_pictures, draw_pixels, edit_manifest
from pictures import draw_noise, draw_smooth, encode
from snellen.core.errors import PictureError, UsageError
from snellen.inference.load import MANIFEST_FILE, load_bundle
from snellen.inference.predictor import Predictor
from snellen.records.bundle import Prediction

SIZE = 8
GRADES = ("grade_0", "grade_1", "grade_2")


def paint(red: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A picture of one colour."""
    return np.full((height, width, 3), (red, 0, 0), np.uint8)


def load_plain(
    folder: Path, *, threshold: float | None = None, positive: str = "sick", classes: tuple[str, ...] = CLASSES
) -> Predictor:
    """P(second class) = sigmoid(red / 255), worked out by hand; with a default threshold on `positive`."""
    deliver_plain_bundle(folder, classes, positive=positive)
    if threshold is not None:
        point = {"name": "moved", "rule": "youden", "threshold": threshold, "chosen_on": "val", "is_default": True}
        edit_manifest(folder, thresholds=[{**point, "name": "other", "threshold": 0.0, "is_default": False}, point])
    return load_bundle(folder, threads=1)


def answer(predictor: Predictor, source: object) -> Prediction:
    (prediction,) = predictor.predict([source])  # type: ignore[list-item]
    return prediction


def test_twenty_at_once_score_as_each_alone(predictor: Predictor) -> None:
    pixels, _ = draw_class_pictures(20, 500)
    together = predictor.score_pixels(pixels)
    alone = [predictor.score_pixels(pixels[row : row + 1]) for row in range(20)]
    # float32 probabilities: another batch may sum in another order
    expected = np.concatenate([one.probabilities for one in alone])
    np.testing.assert_allclose(together.probabilities, expected, rtol=0, atol=1e-6)


def test_scores_do_not_depend_on_neighbours(predictor: Predictor) -> None:
    pixels, _ = draw_class_pictures(8, 500)
    others = np.concatenate([pixels[:1], draw_pixels(7, 64)])
    one, other = (predictor.score_pixels(batch).logits[0] for batch in (pixels, others))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)  # logits of some units in float32


def test_predictor_answers_several_threads_as_one(predictor: Predictor) -> None:
    pictures = list(draw_class_pictures(12, 500)[0])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda picture: answer(predictor, picture), pictures))
    assert found == [answer(predictor, picture) for picture in pictures]


def test_tiny_bundle_tells_its_classes_apart(predictor: Predictor) -> None:
    pixels, labels = draw_class_pictures(60, 5000)
    found = predictor.score_pixels(pixels).probabilities.argmax(1)
    assert (found == labels).mean() > 0.9


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((1, 64, 64, 3), np.int16),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 1), np.uint8),
        np.zeros((1, 3, 64, 64), np.uint8),
        np.zeros((1, 32, 64, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_score_pixels_refuses_other_type_or_shape(predictor: Predictor, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"uint8 pixels of shape \(N, 64, 64, 3\)"):
        predictor.score_pixels(pixels)


def test_no_pixels_score_as_no_rows(predictor: Predictor) -> None:
    scores = predictor.score_pixels(np.zeros((0, 64, 64, 3), np.uint8))
    assert (scores.probabilities.shape, scores.logits.shape, scores.embedding.shape) == ((0, 2), (0, 2), (0, 96))
    assert predictor.judge(np.zeros((0, 64, 64, 3), np.uint8), scores.embedding).reasons == []


def test_score_pixels_refuses_a_list(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="not list"):
        predictor.score_pixels([[0]])  # type: ignore[arg-type]


def test_every_form_of_a_picture_gives_the_same_answer(predictor: Predictor, tmp_path: Path) -> None:
    pixels = draw_smooth(1, 90, 70)
    path = tmp_path / "picture.png"
    path.write_bytes(encode(pixels))
    (entry,) = os.scandir(tmp_path)
    data = path.read_bytes()
    sources = (path, str(path), entry, data, bytearray(data), memoryview(data), pixels, Image.fromarray(pixels))
    answers = [answer(predictor, source) for source in sources]
    assert len({tuple(found.probabilities.values()) for found in answers}) == 1
    assert [found.path for found in answers] == [str(path)] * 3 + [""] * 5


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pillow_image_is_read_as_its_file(tmp_path: Path, mode: str) -> None:
    predictor = load_plain(tmp_path)
    data = encode(draw_smooth(1, SIZE, SIZE + 2), mode=mode)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(predictor.prepare(image), predictor.prepare(data))


def test_pillow_image_is_turned_as_its_file(tmp_path: Path) -> None:
    predictor, turned = load_plain(tmp_path), Image.Exif()
    turned[0x0112] = 6
    upright = encode(draw_smooth(1, 20, 30))
    data = encode(draw_smooth(1, 20, 30), exif=turned)
    assert not np.array_equal(predictor.prepare(data), predictor.prepare(upright))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(predictor.prepare(image), predictor.prepare(data))


def test_pillow_image_that_cannot_be_read_gets_its_error(predictor: Predictor) -> None:
    assert "mode CMYK" in answer(predictor, Image.new("CMYK", (9, 9))).error
    cut = Image.open(io.BytesIO(encode(draw_noise(1))[:200]))
    assert "truncated" in answer(predictor, cut).error


@pytest.mark.parametrize(
    ("source", "kind"), [(None, "NoneType"), (3, "int"), ([[0, 1]], "list"), ({}, "dict"), (1.5, "float")], ids=repr
)
def test_what_is_no_picture_gets_an_error_of_its_kind(predictor: Predictor, source: object, kind: str) -> None:
    found = answer(predictor, source)
    assert (found.path, found.error.endswith(f"not {kind}")) == ("", True)


def test_empty_path_gets_an_error(predictor: Predictor) -> None:
    assert answer(predictor, "").error == "the path is empty"


@pytest.mark.parametrize("sources", [None, 3], ids=repr)
def test_predict_refuses_what_is_no_list(predictor: Predictor, sources: object) -> None:
    with pytest.raises(UsageError, match="Pictures are a list, not"):
        predictor.predict(sources)  # type: ignore[arg-type]


def test_path_is_told_and_other_sources_have_none(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encode(draw_smooth(1, 90, 70)))
    assert [row.path for row in predictor.predict([path, str(path), path.read_bytes()])] == [str(path), str(path), ""]


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1)], ids=str)
def test_grey_array_scores_as_rgb_of_the_same_grey(predictor: Predictor, shape: tuple[int, ...]) -> None:
    grey = draw_noise(1, 30, 40, channels=1)
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert answer(predictor, grey.reshape(shape)) == answer(predictor, colour)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((9, 9, 3), np.float32),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros(9, np.uint8),
        np.zeros((0, 9), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_array_that_is_no_picture_gets_an_error(predictor: Predictor, array: np.ndarray) -> None:
    assert "must be uint8 or wider integers of shape (H, W) or (H, W, 3)" in answer(predictor, array).error


def test_prepare_raises_for_a_picture_that_cannot_be_read(predictor: Predictor) -> None:
    with pytest.raises(PictureError):
        predictor.prepare(b"no picture")


def test_prepare_gives_pixels_that_score_pixels_takes(predictor: Predictor) -> None:
    picture = draw_smooth(1, 90, 70)
    scores = predictor.score_pixels(predictor.prepare(picture)[None])
    assert list(answer(predictor, picture).probabilities.values()) == scores.probabilities[0].tolist()


def test_bad_pictures_get_errors_and_the_rest_goes_on(predictor: Predictor, tmp_path: Path) -> None:
    good = encode(draw_smooth(1, 90, 70))
    sources = [good, b"", tmp_path / "absent.png", good[:200], good]
    assert [bool(row.error) for row in predictor.predict(sources)] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0b.jpg", "null byte"), ("a\0b.npz::x[0]", "null byte"), ("half\ud800.jpg", "surrogates"),
     ("x" * 5000, "name too long"), ("x" * 5000 + "::frame[1]", "name too long")],
    ids=["zero byte", "zero byte in an array's name", "half a letter", "long", "long with a frame"],
)  # fmt: skip
def test_name_that_no_file_can_have_costs_its_row_only(predictor: Predictor, name: str, reason: str) -> None:
    bad, good = predictor.predict([name, encode(draw_smooth(1, 90, 70))])
    assert (bad.path, good.error) == (name, "")
    assert reason in bad.error.lower()


def test_picture_with_error_has_no_answer(predictor: Predictor) -> None:
    found = answer(predictor, b"no picture")
    assert (found.prediction, found.decision, found.probabilities, found.abstain) == (None, None, {}, True)


def test_who_heeds_abstain_alone_takes_no_unreadable_picture_for_an_answer(predictor: Predictor) -> None:
    found = answer(predictor, b"no picture")
    assert (found.abstain, found.reason) == (True, "the picture cannot be read")
    assert found.error


def test_only_bad_pictures_get_only_errors(predictor: Predictor) -> None:
    assert all(row.error for row in predictor.predict([b"", b"x"]))


def test_no_pictures_get_no_answers(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_order_is_kept_beyond_one_group(tmp_path: Path) -> None:
    # 80 pictures are more than the 32 that are read at once; every seventh cannot be read
    predictor = load_plain(tmp_path)
    sources = [b"bad" if red % 7 == 0 else paint(red) for red in range(80)]
    expected = [None if red % 7 == 0 else 1 / (1 + math.exp(-red / 255)) for red in range(80)]
    found = [None if row.error else row.probabilities["sick"] for row in predictor.predict(sources)]
    # float32 probabilities carry 7 digits
    assert found == [None if value is None else pytest.approx(value, abs=1e-6) for value in expected]


def test_iterate_takes_an_endless_stream_piece_by_piece(tmp_path: Path) -> None:
    predictor = load_plain(tmp_path)
    taken = []

    def stream():  # type: ignore[no-untyped-def]
        for red in range(10_000):
            taken.append(red)
            yield paint(red % 256)

    next(predictor.iterate(stream()))
    assert len(taken) < 100


@pytest.mark.parametrize("form", ["path", "text", "bytes", "bytearray", "memoryview", "array", "pillow"])
def test_predict_takes_a_single_picture(tmp_path: Path, form: str) -> None:
    predictor = load_plain(tmp_path / "bundle")
    path = tmp_path / "red.png"
    path.write_bytes(encode(paint(255)))
    data = path.read_bytes()
    source = {
        "path": path, "text": str(path), "bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data),
        "array": paint(255), "pillow": Image.fromarray(paint(255)),
    }[form]  # fmt: skip
    (found,) = predictor.predict(source)  # type: ignore[arg-type]
    assert found.probabilities["sick"] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)


def test_predict_takes_a_stack_of_pictures(tmp_path: Path) -> None:
    assert len(load_plain(tmp_path).predict(np.stack([paint(0), paint(255)]))) == 2


def test_prediction_is_the_most_probable_class(tmp_path: Path) -> None:
    # sigmoid(1) = 0.73
    found = answer(load_plain(tmp_path, threshold=0.9), paint(255))
    assert found.prediction == "sick"


@pytest.mark.parametrize(("threshold", "decision"), [(0.9, "healthy"), (0.7, "sick")])
def test_decision_follows_the_default_threshold(tmp_path: Path, threshold: float, decision: str) -> None:
    assert answer(load_plain(tmp_path, threshold=threshold), paint(255)).decision == decision


def test_decision_can_differ_from_the_most_probable_class(tmp_path: Path) -> None:
    found = answer(load_plain(tmp_path, threshold=0.9), paint(255))
    assert (found.prediction, found.decision) == ("sick", "healthy")


def test_probability_at_the_threshold_is_positive(tmp_path: Path) -> None:
    # black: both classes have exactly one half
    assert answer(load_plain(tmp_path, threshold=0.5), paint(0)).decision == "sick"


def test_threshold_is_on_the_positive_class_wherever_it_stands(tmp_path: Path) -> None:
    # "healthy", the first class, is positive: sigmoid(-1) = 0.27 reaches 0.2
    assert answer(load_plain(tmp_path, threshold=0.2, positive="healthy"), paint(255)).decision == "healthy"


def test_decision_without_threshold_is_the_prediction(tmp_path: Path) -> None:
    weight = np.diag([1.0, 3.0, 2.0]).astype(np.float32)
    deliver_plain_bundle(tmp_path, ("a", "b", "c"), weight=weight)
    found = answer(load_bundle(tmp_path), np.full((8, 8, 3), 255, np.uint8))
    assert (found.prediction, found.decision) == ("b", "b")


@pytest.mark.parametrize(
    "picture",
    [draw_noise(1, 64, 64), draw_noise(2, 64, 64, 1)],
    ids=["coloured noise", "grey noise"],
)
def test_foreign_picture_gets_abstain_with_its_reason(predictor: Predictor, picture: np.ndarray) -> None:
    found = answer(predictor, picture)
    assert (found.abstain, found.reason) == (True, "the picture is unlike those the model was trained on")


def test_picture_of_one_colour_is_blank(predictor: Predictor) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[..., 0] = 200
    assert predictor.predict([picture])[0].reason == "the picture is blank"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_picture_gets_abstain_whatever_the_gate_says(predictor: Predictor, level: int) -> None:
    found = answer(predictor, np.full((64, 64), level, np.uint8))
    assert (found.abstain, found.reason) == (True, "the picture is blank")


def test_foreign_picture_keeps_its_probabilities(predictor: Predictor) -> None:
    # float32 probabilities sum to one within their 7 digits
    assert sum(answer(predictor, draw_noise(1, 64, 64)).probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_pictures_as_in_training_are_answered(predictor: Predictor) -> None:
    found = predictor.predict(list(draw_class_pictures(100, 5000)[0]))
    assert sum(row.abstain for row in found) <= 2


def test_answered_picture_has_no_reason(predictor: Predictor) -> None:
    assert answer(predictor, draw_class_pictures(1, 5000)[0][0]).reason == ""


def test_embedding_that_is_no_number_is_foreign(predictor: Predictor) -> None:
    pixels = draw_class_pictures(1, 5000)[0]
    assert predictor.judge(pixels, np.full((1, 96), np.nan, np.float32)).reasons != [""]


def test_bundle_without_gate_calls_nothing_foreign(tmp_path: Path) -> None:
    manifest = deliver_plain_bundle(tmp_path)
    edit_manifest(tmp_path, files={name: digest for name, digest in manifest.files.items() if name != "gate.npz"})
    pixels = draw_noise(0, SIZE, SIZE)[None]
    assert load_bundle(tmp_path).judge(pixels, np.full((1, 3), 1e6, np.float32)).reasons == [""]


DEEP = np.linspace(0, 4095, 8 * 8 * 3).reshape(8, 8, 3).astype(np.uint16)


def load_windowed(folder: Path) -> Predictor:
    predictor = load_plain(folder)
    plain = predictor.manifest.preprocess.to_dict()
    edit_manifest(folder, preprocess={**plain, "window": [0, 4095]})
    return load_bundle(folder, threads=1)


def test_deep_picture_without_a_window_is_an_error_row(tmp_path: Path) -> None:
    row = answer(load_plain(tmp_path), DEEP)
    assert "more than 8 bits" in row.error
    assert row.prediction is None


def test_deep_arrays_and_files_go_through_the_window(tmp_path: Path) -> None:
    predictor = load_windowed(tmp_path / "bundle")
    grey = DEEP[..., 0]
    (tmp_path / "x.png").write_bytes(encode(grey))
    expected = np.rint(grey / 4095 * 255).astype(np.uint8)
    assert np.array_equal(predictor.prepare(grey), predictor.prepare(expected))
    assert np.array_equal(predictor.prepare(tmp_path / "x.png"), predictor.prepare(expected))


def test_8_bit_pictures_pass_a_window_unchanged(tmp_path: Path) -> None:
    assert np.array_equal(load_windowed(tmp_path).prepare(paint(200)), paint(200))


def test_bundle_written_before_windows_opens(tmp_path: Path) -> None:
    plain = load_plain(tmp_path).manifest.preprocess.to_dict()
    edit_manifest(tmp_path, preprocess={key: plain[key] for key in plain if key not in ("window", "background")})
    assert load_bundle(tmp_path, threads=1).manifest.preprocess.background == "white"


def test_background_of_the_manifest_holds(tmp_path: Path) -> None:
    plain = load_plain(tmp_path).manifest.preprocess.to_dict()
    nothing = encode(np.zeros((8, 8, 4), np.uint8))
    for background, level in (("white", 255), ("black", 0)):
        edit_manifest(tmp_path, preprocess={**plain, "background": background})
        assert (load_bundle(tmp_path, threads=1).prepare(nothing) == level).all()


def load_grades(folder: Path, **changes: object) -> Predictor:
    """Of a black picture: 40 % grade_0, 25 % grade_1, 35 % grade_2, an expected grade of 0.95."""
    deliver_plain_bundle(folder, GRADES, bias=np.log(np.array([0.40, 0.25, 0.35], np.float32)))
    edit_manifest(folder, ordered=True, task="ordinal", **changes)
    return load_bundle(folder, threads=1)


@pytest.mark.parametrize(("rule", "called"), [("most_probable", "grade_0"), ("expected_grade", "grade_1")])
def test_prediction_follows_the_rule_of_the_bundle(tmp_path: Path, rule: str, called: str) -> None:
    found = answer(load_grades(tmp_path, decision=rule), paint(0))
    assert list(found.probabilities.values()) == pytest.approx([0.40, 0.25, 0.35], abs=1e-5)
    assert (found.prediction, found.decision) == (called, called)


def test_bundle_of_an_earlier_version_takes_the_most_probable_class(tmp_path: Path) -> None:
    load_grades(tmp_path)
    path = tmp_path / MANIFEST_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["decision"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert answer(load_bundle(tmp_path, threads=1), paint(0)).prediction == "grade_0"


def test_prevalence_comes_before_the_rule(tmp_path: Path) -> None:
    predictor = load_grades(tmp_path, decision="expected_grade", prevalence=dict.fromkeys(GRADES, 1 / 3))
    # weights 0.08 : 0.05 : 0.21, an expected grade of 1.38; the most probable is grade_2
    (found,) = predictor.predict([paint(0)], prevalence={"grade_0": 0.2, "grade_1": 0.2, "grade_2": 0.6})
    assert max(found.probabilities, key=found.probabilities.__getitem__) == "grade_2"
    assert (found.prediction, found.decision) == ("grade_1", "grade_1")
    # weights 0.28 : 0.05 : 0.035, 0.33
    (found,) = predictor.predict([paint(0)], prevalence={"grade_0": 0.7, "grade_1": 0.2, "grade_2": 0.1})
    assert found.prediction == "grade_0"
