"""Evidence maps say what the graph says, place by place, and change when the graph's head does."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import Delivered, deliver_plain_bundle, draw_class_pictures
from pictures import draw_smooth, write_picture
from snellen.core.errors import PictureError, UsageError
from snellen.inference.evidence_picture import colour_map, draw_panels, encode_panels
from snellen.inference.explain import (
    CLASS_ACTIVATION,
    OCCLUSION,
    EvidenceMap,
    Explainer,
    list_windows,
    scale_evidence,
)
from snellen.inference.load import load_bundle
from snellen.inference.predictor import Predictor
from snellen.prediction import Target, predict_paths

CLASSES = ("healthy", "sick")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """P(sick) rises with the mean red: the graph tells nothing of places by itself."""
    folder = tmp_path_factory.mktemp("plain")
    deliver_plain_bundle(folder, CLASSES, positive="sick", weight=np.array([[-20, 20], [0, 0], [0, 0]], np.float32))
    return load_bundle(folder, threads=1)


def paint_spot() -> np.ndarray:
    """Black, with a red spot in the upper left."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[1:3, 1:3, 0] = 255
    return picture


def test_class_map_adds_up_to_the_logits(delivered: Delivered) -> None:
    found = delivered.session.run(draw_class_pictures(12, 700)[0], ("class_map", "logits"))
    rest = found["logits"] - found["class_map"].mean((2, 3))
    # what is left is the head's constant, the same for each picture; float32 sums of 96 features
    np.testing.assert_allclose(rest, np.repeat(rest[:1], 12, axis=0), atol=1e-4)
    assert np.ptp(found["logits"][:, 0]) > 0.1


def test_linear_head_is_explained_by_class_activation(predictor: Predictor) -> None:
    found = predictor.explain(draw_class_pictures(1, 900)[0][0])
    assert found.method == CLASS_ACTIVATION
    assert (found.array.shape, found.array.dtype) == ((64, 64), np.float32)
    assert 0 <= found.array.min() <= found.array.max() <= 1


def test_class_activation_is_the_class_map_against_the_other_class(delivered: Delivered, predictor: Predictor) -> None:
    pixels = draw_class_pictures(1, 900)[0]
    class_map = delivered.session.run(pixels, ("class_map",))["class_map"][0]
    against = class_map[1] - class_map[0]
    found = predictor.explain_pixels(pixels[0], "sick").array
    lightest, most = np.unravel_index(found.argmax(), found.shape), np.unravel_index(against.argmax(), against.shape)
    assert against.max() > 0
    assert [place * n // 64 for place, n in zip(lightest, against.shape, strict=True)] == list(most)
    other = predictor.explain_pixels(pixels[0], "healthy").array
    assert not np.array_equal(found, other)


def test_explained_is_the_class_that_is_predicted(predictor: Predictor) -> None:
    pixels = draw_class_pictures(6, 900)[0]
    expected = [answer.prediction for answer in predictor.predict(list(pixels))]
    assert [predictor.explain(picture).class_name for picture in pixels] == expected


def test_graph_without_class_map_is_explained_by_occlusion(plain: Predictor) -> None:
    found = plain.explain(paint_spot(), "sick")
    assert found.method == OCCLUSION
    assert found.array[1:3, 1:3].min() > 0.3
    # evidence lies where the red is, and blurring black makes nothing less red
    assert found.array[4:, 4:].max() < 0.01


def test_evidence_against_a_class_is_none_for_it(plain: Predictor) -> None:
    found = plain.explain(paint_spot(), "healthy").array
    assert found[1:3, 1:3].max() == 0


def test_unknown_class_is_refused_with_the_near_one(plain: Predictor) -> None:
    with pytest.raises(UsageError, match="Did you mean 'healthy'"):
        plain.explain(paint_spot(), "healty")


def test_unreadable_picture_has_no_map(plain: Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError):
        plain.explain(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["predictor", "plain"])
def test_random_head_gives_another_map(kind: str, request: pytest.FixtureRequest) -> None:
    model: Predictor = request.getfixturevalue(kind)
    size = model.manifest.input.height_px
    pixels = draw_smooth(3, size, size)
    own = model.explain_pixels(pixels, "sick").array
    explained, *others = model.open_explainer().explain_beside_random(pixels, 1, range(1, 6))
    assert np.array_equal(own, explained)
    assert all(not np.allclose(own, other, atol=0.05) for other in others)
    assert not np.array_equal(others[0], others[1])


def test_random_head_is_the_same_for_the_same_seed(predictor: Predictor) -> None:
    pixels = draw_class_pictures(1, 900)[0][0]
    explainer = predictor.open_explainer()
    alone, both = (explainer.explain_beside_random(pixels, 1, seeds) for seeds in ([3], [2, 3]))
    assert np.array_equal(alone[1], both[2])


class Counting:
    """A graph in which the first pixel's red is the evidence for class 1, and that counts what it is asked."""

    outputs = ("logits", "embedding")
    asked = 0

    def run(self, pixels: np.ndarray, _outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        self.asked += len(pixels)
        red = pixels[:, 0, 0, :1].astype(np.float32) / 255
        return {"logits": np.hstack([-red, red]), "embedding": red}


@pytest.mark.parametrize(("multiplications", "n"), [(0.0, 225), (2e9, 225), (15e9, 64)])
def test_slow_network_is_asked_less_and_its_evidence_found_as_well(multiplications: float, n: int) -> None:
    session = Counting()
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[0, 0] = 255
    found = Explainer(session, multiplications).explain(picture, 1)  # type: ignore[arg-type]
    assert session.asked == n + 1
    assert np.unravel_index(found.argmax(), found.shape) == (0, 0)
    assert found[8:, 8:].max() == 0


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (50, 31), (3, 5)])
def test_windows_cover_every_place(height: int, width: int, overlap: bool) -> None:
    covered = np.zeros((height, width), int)
    for rows, columns in list_windows(height, width, overlap=overlap):
        covered[rows, columns] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [([[-1.0, 2.0, 4.0]], [[0, 0.5, 1]]), ([[-2.0, -1.0]], [[0, 0]]), ([[np.nan, 1.0]], [[0, 0]])],
    ids=["both", "only-against", "no-number"],
)
def test_scaled_evidence_lies_within_0_and_1(given: list[list[float]], expected: list[list[float]]) -> None:
    found = scale_evidence(np.array(given, np.float32))
    assert np.nan_to_num(found).tolist() == expected


def test_grey_picture_keeps_its_shape(delivered: Delivered) -> None:
    found = EvidenceMap(np.zeros((64, 64), np.float32), OCCLUSION, "sick", 0.5, np.zeros((64, 64, 1), np.uint8))
    assert draw_panels(found).shape[2] == 3


def test_picture_stands_untouched_beside_its_map() -> None:
    picture = draw_smooth(1, 256, 256)
    values = np.zeros((256, 256), np.float32)
    values[:100, :100] = 1
    panels = draw_panels(EvidenceMap(values, OCCLUSION, "sick", 0.5, picture))
    assert np.array_equal(panels[:, :256], picture)
    assert panels.shape[1] > 3 * 256
    assert not np.array_equal(panels[:, -256:], picture)  # the line around the evidence


def test_map_is_lighter_where_there_is_more_evidence() -> None:
    levels = colour_map(np.linspace(0, 1, 11, dtype=np.float32)[None])[0].astype(float)
    lightness = levels @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()


def test_caption_of_letters_that_no_font_has_is_drawn() -> None:
    found = EvidenceMap(np.zeros((64, 64), np.float32), OCCLUSION, "青光眼", 0.5, np.zeros((64, 64, 3), np.uint8))
    assert Image.open(io.BytesIO(encode_panels(found, "grün"))).size[0] > 192


def read_index(folder: Path) -> list[dict[str, str]]:
    with (folder / "maps.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_predict_draws_a_map_for_each_readable_picture(plain: Predictor, tmp_path: Path) -> None:
    for name in ("a.png", "b ö.png", "sub/a.png"):
        write_picture(tmp_path / "new" / name)
    (tmp_path / "new" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    target = Target(tmp_path / "rows.csv", False, False, tmp_path / "maps")
    predict_paths(plain.folder, [str(tmp_path / "new")], target)
    rows = read_index(tmp_path / "maps")
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b ö.png", "a.png"]
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"maps.csv", *(row["file"] for row in rows)}
    for row in rows:
        with Image.open(tmp_path / "maps" / row["file"]) as drawn:
            assert drawn.size[0] >= 3 * 256
    assert {row["method"] for row in rows} == {OCCLUSION}


def test_maps_of_others_stay(plain: Predictor, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "mine.png").write_bytes(b"")
    with pytest.raises(UsageError, match="exists already"):
        predict_paths(plain.folder, [str(tmp_path / "a.png")], Target(None, False, True, tmp_path / "maps"))
    with pytest.raises(UsageError, match=r"maps\.csv"):
        predict_paths(plain.folder, [str(tmp_path / "a.png")], Target(None, True, True, tmp_path / "maps"))


def test_overwritten_maps_leave_nothing_of_the_earlier_call(
    plain: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name)
    maps = tmp_path / "maps"
    predict_paths(plain.folder, [str(tmp_path / "a.png"), str(tmp_path / "b.png")], Target(None, False, True, maps))
    (maps / "mine.png").write_bytes(b"")
    predict_paths(plain.folder, [str(tmp_path / "b.png")], Target(None, True, True, maps))
    assert {path.name for path in maps.iterdir()} == {"maps.csv", "0001-b.png", "mine.png"}


def test_head_with_a_hidden_layer_has_no_class_map() -> None:
    from torch import nn

    from models import make_model
    from snellen.modeling.architectures import Classifier, FrozenBackbone

    head = nn.Sequential(nn.Linear(96, 4), nn.ReLU(), nn.Linear(4, 2))
    classifier = Classifier(FrozenBackbone(make_model()), head)
    classifier.add_class_map()
    assert "class_map" not in classifier.outputs


def test_explainer_takes_the_method_that_the_graph_allows(delivered: Delivered) -> None:
    assert Explainer(delivered.session).method == CLASS_ACTIVATION
