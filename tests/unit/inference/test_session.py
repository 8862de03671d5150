"""A graph is opened or refused in words, and takes any number of pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models import Delivered, draw_pixels, write_plain_graph
from servers import wait_until
from snellen.core.errors import BundleError
from snellen.inference.session import BATCH, GraphSession


@pytest.fixture
def session(tmp_path: Path) -> GraphSession:
    weight = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    return GraphSession(write_plain_graph(tmp_path / "plain.onnx", weight, np.zeros(2, np.float32)), threads=1)


@pytest.mark.parametrize("n", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_session_gives_a_row_a_picture_in_order(session: GraphSession, n: int) -> None:
    pixels = draw_pixels(n, 8)
    found = session.run(pixels, ("embedding",))["embedding"]
    # float32 sums of 64 levels
    np.testing.assert_allclose(found, pixels.mean((1, 2)) / 255, rtol=1e-5)


def test_session_gives_what_was_asked_and_no_more(session: GraphSession) -> None:
    assert list(session.run(draw_pixels(2, 8), ("logits", "embedding"))) == ["logits", "embedding"]


def test_session_names_go_with_their_values(session: GraphSession) -> None:
    found = session.run(draw_pixels(3, 8), ("logits", "embedding"))
    assert np.array_equal(found["logits"], found["embedding"][:, :2])


def test_session_gives_float32(session: GraphSession) -> None:
    found = session.run(draw_pixels(2, 8), session.outputs)
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


def test_session_takes_pixels_that_are_not_contiguous(session: GraphSession) -> None:
    pixels = draw_pixels(3, 8)
    found = session.run(pixels[:, ::-1, ::-1], ("embedding",))["embedding"]
    # a mean does not see the order, but for the rounding of float32
    np.testing.assert_allclose(found, session.run(pixels, ("embedding",))["embedding"], rtol=1e-6)


def test_session_knows_its_input_and_outputs(session: GraphSession) -> None:
    assert session.input_name == "pixels"
    assert session.outputs == ("probabilities", "logits", "embedding", "feature_map")


def test_session_of_no_pictures_is_a_defect_of_the_caller(session: GraphSession) -> None:
    with pytest.raises(ValueError, match="no pictures"):
        session.run(draw_pixels(0, 8), ("logits",))


@pytest.mark.parametrize("content", [b"", b"no graph", bytes(1000)], ids=["empty", "text", "zeros"])
def test_file_that_is_no_graph_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is no graph"):
        GraphSession(path, threads=1)


def test_absent_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.onnx"):
        GraphSession(tmp_path / "absent.onnx", threads=1)


IN_LITTLE_MEMORY = """
import resource, sys
import numpy as np
from snellen.core.errors import BundleError
from snellen.inference.session import GraphSession
session = GraphSession(sys.argv[1], OPTIONS)
session.run(np.zeros((2, 8, 8, 3), np.uint8), ("embedding",))
pixels = np.zeros((5, 2000, 2000, 3), np.uint8)
pixels[3] = 51
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 1_000_000,) * 2)
try:
    found = session.run(pixels, ("embedding",))["embedding"]
except BundleError as error:
    sys.exit(f"refused: {error}")
print(session.batch, found.astype(float).round(2).tolist())
"""


def run_in_little_memory(graph: Path, spare_mb: int, options: str = "threads=1") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IN_LITTLE_MEMORY.replace("OPTIONS", options), str(graph), str(spare_mb)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_plain_graph(tmp_path / "plain.onnx", np.eye(3, 2, dtype=np.float32), np.zeros(2, np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_session_goes_on_with_fewer_pictures_where_memory_runs_out(graph: Path) -> None:
    # a picture needs about 160 MB as float32, five at once 800
    done = run_in_little_memory(graph, 500)
    assert done.returncode == 0, done.stderr
    batch, rows = done.stdout.split(maxsplit=1)
    assert int(batch) < BATCH
    assert json.loads(rows) == [[0.0] * 3] * 3 + [[0.2] * 3] + [[0.0] * 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_session_without_memory_for_one_picture_says_so(graph: Path) -> None:
    done = run_in_little_memory(graph, 60)
    assert "refused: One picture needs more memory" in done.stderr


def open_to_serve(graph: Path) -> GraphSession:
    session = GraphSession(graph, threads=2, serves=True)
    wait_until(lambda: session._find_alone(session._pool) is not None)  # before, all threads work on each batch
    return session


@pytest.mark.parametrize("n", [1, 2, 3, BATCH, 2 * BATCH + 1])
def test_server_that_shares_pictures_out_gives_the_same_rows_in_order(delivered: Delivered, n: int) -> None:
    pixels = np.concatenate([delivered.train_pixels] * 3)[:n]
    serving = open_to_serve(delivered.folder / "model.onnx")
    found, expected = serving.run(pixels, serving.outputs), delivered.session.run(pixels, serving.outputs)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-6, err_msg=name)


def test_server_scores_from_several_threads_at_once(delivered: Delivered) -> None:
    serving = open_to_serve(delivered.folder / "model.onnx")
    given = [delivered.train_pixels[start : start + 3] for start in range(0, 9, 3)] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pixels: serving.run(pixels, ("probabilities",))["probabilities"], given))
    for pixels, values in zip(given, found, strict=True):
        expected = delivered.session.run(pixels, ("probabilities",))["probabilities"]
        np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_server_goes_on_with_fewer_pictures_too(graph: Path) -> None:
    done = run_in_little_memory(graph, 500, "threads=2, serves=True")
    assert done.returncode == 0, done.stderr
    batch, rows = done.stdout.split(maxsplit=1)
    assert int(batch) < BATCH
    assert json.loads(rows) == [[0.0] * 3] * 3 + [[0.2] * 3] + [[0.0] * 3]
