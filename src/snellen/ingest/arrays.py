"""Arrays in an .npz: MedMNIST's layout (`train_images`, `train_labels`, `val_…`) and others, found by shape."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from snellen.core.archives import describe_method
from snellen.core.errors import DataError
from snellen.imaging.arrays import open_array, require_room, require_unit_range
from snellen.ingest.array_samples import list_samples
from snellen.ingest.keys import ArrayInfo, Part, find_parts
from snellen.ingest.samples import Source

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


def read_npz(path: Path, columns: dict[str, str] | None = None) -> Source:
    """List the pictures of an .npz. Raises DataError; arrays of Python objects (pickles) are refused."""
    parts = find_parts(path, list_arrays(path), columns or {})
    _require_room(path, parts)
    for part in parts:
        images = open_array(path, part.image)  # read whole: a damaged file is told now, and float ranges are seen
        if images.dtype.kind == "f":
            require_unit_range(path, part.image, images)
    known = _recognise(path, parts)
    names = MEDMNIST_CLASSES[known] if known else ()
    samples, issues = list_samples(path, parts, lambda key: open_array(path, key), names)
    origin = f"label names of MedMNIST's {known}, recognised by the file's name" if known else "labels in the file"
    layout = f"npz with {', '.join(part.split or part.image for part in parts)}"
    title = "array " + ", ".join(part.patient for part in parts if part.patient)
    return Source(path.parent, layout, samples, origin, known in _ORDERED, issues, patient_title=title)


def list_arrays(path: Path) -> list[ArrayInfo]:
    """Keys, shapes and types, read from the arrays' headers alone."""
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                if reason := describe_method(entry):
                    raise DataError(f"{path}: {entry.filename} {reason}.", "Save it anew with np.savez_compressed.")
                with archive.open(entry) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
                        np.lib.format.read_array_header_2_0
                    )  # fmt: skip
                    shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise ValueError(f"{entry.filename} holds Python objects, which only pickle could read")
                found.append(ArrayInfo(entry.filename.removesuffix(".npy"), shape, dtype.kind, str(dtype)))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(
            f"{path} is no readable .npz file of plain arrays: {error}.",
            "Download or export it again; save texts as np.array(texts, dtype=str).",
        ) from error
    return found


def _require_room(path: Path, parts: list[Part]) -> None:
    """All arrays that are used stay in memory: their sum counts."""
    keys = {key for part in parts for key in (part.image, part.label, part.patient, part.splits, part.name) if key}
    try:
        with zipfile.ZipFile(path) as archive:
            require_room([entry for entry in archive.infolist() if entry.filename.removesuffix(".npy") in keys])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}.", "HDF5 is read picture by picture: save the arrays with h5py.") from error


def _recognise(path: Path, parts: list[Part]) -> str | None:
    """The MedMNIST set that the file's name and layout tell."""
    if not all(part.split and part.image == f"{part.split}_images" for part in parts):
        return None
    return next((name for name in MEDMNIST_CLASSES if path.stem.startswith(name)), None)
