"""What is exported says what torch says, for any number of pictures, from one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models import TinyGraph, draw_pixels, make_plan
from snellen.inference.session import GraphSession
from snellen.modeling.architectures import FrozenBackbone
from snellen.modeling.graph import OPSET, export_graph
from snellen.run_features import export_backbone

OUTPUTS = ("embedding", "feature_map")


@pytest.mark.parametrize("n", [1, 3, 17])
@pytest.mark.parametrize("output", [0, 1], ids=OUTPUTS)
def test_graph_equals_torch_for_any_number_of_pictures(tiny: TinyGraph, n: int, output: int) -> None:
    pixels = draw_pixels(n, 16)
    found = GraphSession(tiny.path, threads=1).run(pixels, OUTPUTS)[OUTPUTS[output]]
    with torch.no_grad():
        expected = tiny.module.eval()(torch.from_numpy(pixels))[output].numpy()
    # values of about 1 in float32, summed in another order
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_graph_takes_uint8_pixels_channels_last_with_free_n(tiny: TinyGraph) -> None:
    (given,) = onnx.load(tiny.path).graph.input
    shape = [dimension.dim_param or dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert isinstance(shape[0], str)
    assert shape[1:] == [16, 16, 3]


def test_graph_names_its_outputs_in_order(tiny: TinyGraph) -> None:
    assert GraphSession(tiny.path, threads=1).outputs == OUTPUTS


def test_graph_is_of_the_stated_opset(tiny: TinyGraph) -> None:
    assert [opset.version for opset in onnx.load(tiny.path).opset_import if opset.domain == ""] == [OPSET]


def test_graph_passes_onnx_own_check(tiny: TinyGraph) -> None:
    onnx.checker.check_model(onnx.load(tiny.path), full_check=True)


def test_graph_keeps_its_weights_inside(tiny: TinyGraph) -> None:
    stored = onnx.load(tiny.path, load_external_data=False).graph.initializer
    assert stored
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in stored)


def test_graph_runs_where_it_was_copied_alone(tiny: TinyGraph, tmp_path: Path) -> None:
    copied = Path(shutil.copy(tiny.path, tmp_path))
    assert GraphSession(copied, threads=1).run(draw_pixels(1, 16), OUTPUTS)["embedding"].shape == (1, 4)


def test_export_leaves_one_file(tiny: TinyGraph) -> None:
    assert list(tiny.path.parent.iterdir()) == [tiny.path]


def test_graph_names_no_place_on_this_machine(tiny: TinyGraph) -> None:
    content = tiny.path.read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


class Grey(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        planes = pixels.float().mean(3, keepdim=True)
        return planes.mean((1, 2)), planes


def test_module_that_was_traced_again_gives_the_same_file(tmp_path: Path) -> None:
    """Torch counts what it traces in a process: a run that goes on traces less than one that was not stopped."""
    contents = []
    for number in range(2):
        path = tmp_path / f"{number}.onnx"
        export_graph(torch.fx.symbolic_trace(Grey()), path, shape=(4, 4, 3), outputs=OUTPUTS)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_graph_of_module_in_training_mode_drops_nothing(tiny: TinyGraph) -> None:
    # the module was handed over in training mode: with its dropout, two calls would differ
    session, pixels = GraphSession(tiny.path, threads=1), draw_pixels(3, 16)
    first, second = (session.run(pixels, ("embedding",))["embedding"] for _ in range(2))
    assert np.array_equal(first, second)


def test_cached_backbone_graph_is_not_that_of_other_arguments(tmp_path: Path) -> None:
    # the same weights between other activations are another network
    paths = []
    for arguments in ({}, {"act_layer": "gelu"}):
        plan = make_plan(model={"backbone_args": arguments})
        torch.manual_seed(0)
        paths.append(export_backbone(FrozenBackbone(plan.model), plan, tmp_path))
    assert paths[0] != paths[1]
