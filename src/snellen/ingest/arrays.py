"""MedMNIST's .npz layout: `train_images`, `train_labels`, `val_…`, `test_…`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import DataError
from snellen.ingest.patients import RawSample

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
# class names as MedMNIST v2 publishes them (Yang et al. 2023, table of labels), for the single-label 2D sets
MEDMNIST_CLASSES = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pneumoniamnist": ("normal", "pneumonia"),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "breastmnist": ("malignant", "normal, benign"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
}  # fmt: skip
_ORDERED = ("retinamnist",)
_PICTURE_DIMENSIONS = (3, 4)


def read_npz(path: Path) -> tuple[list[RawSample], str, str, bool]:
    """(samples, layout, where class names come from, classes are ordered). Raises DataError."""
    try:
        # opened here, because np.load leaves a file open whose zip directory is damaged
        with path.open("rb") as stream, _open_archive(stream) as archive:
            names = set(archive.files)
            splits = [split for split in ("train", "val", "test") if f"{split}_images" in names]
            _require_layout(path, names, splits)
            labels = {split: np.asarray(archive[f"{split}_labels"]) for split in splits}
            counts = {split: _check_images(path, archive, split) for split in splits}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, KeyError) as error:
        raise DataError(f"{path} is no readable .npz file of plain arrays.", "Download or export it again.") from error
    known = next((name for name in MEDMNIST_CLASSES if path.stem.startswith(name)), None)
    class_names = MEDMNIST_CLASSES[known] if known else ()
    samples: list[RawSample] = []
    for split in splits:
        values = _check_labels(path, split, labels[split], counts[split])
        for index, value in enumerate(values):
            label = class_names[value] if 0 <= value < len(class_names) else str(value)
            samples.append(RawSample(f"{split}/{index:06d}", f"{path.name}::{split}_images[{index}]", label, split))
    origin = f"label names of MedMNIST's {known}, recognised by the file's name" if known else "numbers in the file"
    return samples, f"npz with {', '.join(splits)}", origin, known in _ORDERED


def _open_archive(stream: BinaryIO) -> np.lib.npyio.NpzFile:
    archive = np.load(stream, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError("it is one array, not an archive of arrays")
    return archive


def _require_layout(path: Path, names: set[str], splits: list[str]) -> None:
    missing = [f"{split}_labels" for split in splits if f"{split}_labels" not in names]
    if "train" not in splits or missing:
        raise DataError(
            f"{path} lacks {', '.join(missing) or 'train_images'}; it holds {', '.join(sorted(names)) or 'nothing'}.",
            "MedMNIST's layout is train_images, train_labels, and the same for val and test.",
        )


def _check_images(path: Path, archive: np.lib.npyio.NpzFile, split: str) -> int:
    images = archive[f"{split}_images"]
    if not isinstance(images, np.ndarray):
        raise ValueError(f"{split}_images is no array")
    is_picture = images.ndim == _PICTURE_DIMENSIONS[0] or (
        images.ndim == _PICTURE_DIMENSIONS[1] and images.shape[3] in (1, 3)
    )
    if images.dtype != np.uint8 or not is_picture:
        raise DataError(
            f"{path}: {split}_images is {images.dtype} of shape {images.shape}.",
            "Snellen reads uint8 of shape (N, H, W) or (N, H, W, 3).",
        )
    return len(images)


def _check_labels(path: Path, split: str, labels: NDArray[np.generic], n: int) -> list[int]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(
            f"{path}: {split}_labels has {labels.shape[1]} columns: several labels a picture (multi-label).",
            "Snellen is for one label a picture.",
        )
    if labels.size != n or labels.dtype.kind not in "iub":
        raise DataError(
            f"{path}: {split}_labels is {labels.dtype} of shape {labels.shape} for {n} pictures.",
            "There must be one whole number a picture.",
        )
    return [int(value) for value in labels.reshape(-1)]
