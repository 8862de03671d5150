"""Resampling before the split and inside it, with the small network of the published OCTMNIST notebook, in plain torch.

Three protocols for the same pictures, folds in number, epochs and weights at the start:

published        CLAHE, SMOTE and augmentation of all pictures, then folds of pictures
by picture       folds of pictures, then the same steps inside each training part
honest           folds of patients, then the same steps inside each training part

Where the patients are known and drawn by us, pictures of new patients tell what each model is worth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from snellen.ingest.phantom import draw_picture, list_labels
from snellen.metrics.scores import compute_scores

SIDE = 28
SHARES = (0.47, 0.08, 0.10, 0.35)  # of patients: two common and two rare classes, as in OCTMNIST
NEW_PATIENTS = 120
EYES, PICTURES = ("left", "right"), 3
CLIP_LIMIT, TILES = 2.0, (4, 4)
BATCH, RATE = 64, 1e-3
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Grey pictures `(N, 28, 28)` with labels and patients `(N,)`; `new` are pictures and labels of other patients."""

    title: str
    pixels: Pixels
    labels: Labels
    patients: NDArray[np.int64]
    has_patients: bool
    new: tuple[Pixels, Labels] | None

    @property
    def counts(self) -> list[int]:
        return np.bincount(self.labels).tolist()


def load(path: Path | None, n_patients: int, limit: int) -> Data:
    """Synthetic OCT of `n_patients`, or the pictures of all parts of a MedMNIST file, whose patients are unknown."""
    if path is None:
        pixels, labels, patients = draw(n_patients, first_seed=1_000)
        new = draw(NEW_PATIENTS, first_seed=900_000)[:2]
        return Data(f"Synthetic OCT, {n_patients} patients", pixels, labels, patients, has_patients=True, new=new)
    with np.load(path, allow_pickle=False) as file:
        parts = [part for part in ("train", "val", "test") if f"{part}_images" in file]
        pixels = np.concatenate([file[f"{part}_images"] for part in parts])
        labels = np.concatenate([file[f"{part}_labels"] for part in parts]).reshape(-1).astype(np.int64)
    if pixels.ndim != 3 or pixels.shape[1:] != (SIDE, SIDE):
        raise SystemExit(f"{path}: pictures are {pixels.shape[1:]}, not grey {SIDE} px")
    if limit and limit < len(labels):
        chosen = np.sort(np.random.default_rng(0).choice(len(labels), limit, replace=False))
        pixels, labels = pixels[chosen], labels[chosen]
    return Data(path.stem, pixels, labels, np.arange(len(labels)), has_patients=False, new=None)


def draw(n_patients: int, first_seed: int) -> tuple[Pixels, Labels, NDArray[np.int64]]:
    """Pictures `(N, 28, 28)`, labels and patients: both eyes, three pictures of each."""
    random = np.random.default_rng(first_seed)
    names = list_labels("oct")
    label_of = random.permutation(np.repeat(np.arange(4), np.ceil(np.array(SHARES) * n_patients).astype(int)))
    pixels, labels, patients = [], [], []
    for patient in range(n_patients):
        for eye in EYES:
            for picture in range(PICTURES):
                drawn = draw_picture(
                    "oct", names[label_of[patient]], patient_seed=first_seed + patient, picture=picture, eye=eye,
                    size_px=56, difficulty=1.0,
                )  # fmt: skip
                pixels.append(cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
                labels.append(label_of[patient])
                patients.append(patient)
    return np.stack(pixels), np.array(labels, np.int64), np.array(patients)


def measure(data: Data, seeds: Sequence[int], n_folds: int, n_epochs: int) -> dict[str, list[dict[str, float]]]:
    """Protocol → a row a seed: mean over the folds of each score."""
    torch.set_num_threads(1)
    protocols = {"published": _publish, "by picture": _split_pictures}
    protocols |= {"honest": _split_patients} if data.has_patients else {}
    arms: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for name, protocol in protocols.items():
            begin = time.monotonic()
            rows = [_run(part, data, n_epochs, seed) for part in protocol(data, n_folds, seed)]
            mean = {metric: float(np.mean([row[metric] for row in rows])) for metric in rows[0]}
            arms.setdefault(name, []).append(mean)
            told = ", ".join(f"{metric} {value:.3f}" for metric, value in mean.items())
            print(f"seed {seed}, {name}: {told} ({time.monotonic() - begin:.0f} s)", flush=True)
    if not data.has_patients:  # each picture its own patient: the two are one protocol
        arms["honest"] = arms.pop("by picture")
    return arms


@dataclass(frozen=True)
class Part:
    """Pictures in [0, 1] `(N, 28, 28)` with labels, to learn from and to measure on."""

    train: NDArray[np.float32]
    train_labels: Labels
    test: NDArray[np.float32]
    test_labels: Labels


def _publish(data: Data, n_folds: int, seed: int) -> Iterator[Part]:
    from sklearn.model_selection import StratifiedKFold

    values, labels = prepare(equalise(data.pixels), data.labels, seed)
    for train, test in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(values, labels):
        yield Part(values[train], labels[train], values[test], labels[test])


def _split_pictures(data: Data, n_folds: int, seed: int) -> Iterator[Part]:
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    yield from _prepare_inside(data, list(folds.split(data.labels, data.labels)), seed)


def _split_patients(data: Data, n_folds: int, seed: int) -> Iterator[Part]:
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    yield from _prepare_inside(data, list(folds.split(data.labels, data.labels, data.patients)), seed)


def _prepare_inside(data: Data, folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]], seed: int) -> Iterator[Part]:
    """CLAHE looks at one picture alone; SMOTE and augmentation see the training part only."""
    values = equalise(data.pixels)
    for train, test in folds:
        grown, grown_labels = prepare(values[train], data.labels[train], seed)
        yield Part(grown, grown_labels, values[test], data.labels[test])


def equalise(pixels: Pixels) -> NDArray[np.float32]:
    """Contrast-limited adaptive histogram equalisation of each picture, in [0, 1]."""
    clahe = cv2.createCLAHE(CLIP_LIMIT, TILES)
    return np.stack([clahe.apply(picture) for picture in pixels]).astype(np.float32) / 255


def prepare(values: NDArray[np.float32], labels: Labels, seed: int) -> tuple[NDArray[np.float32], Labels]:
    """SMOTE to equal classes, then one augmented copy of every picture, real or made."""
    from imblearn.over_sampling import SMOTE

    grown, grown_labels = SMOTE(random_state=seed).fit_resample(values.reshape(len(values), -1), labels)
    pictures = grown.reshape(-1, SIDE, SIDE)
    random = np.random.default_rng(seed)
    copies = np.stack([augment(picture, random) for picture in pictures])
    return np.concatenate([pictures, copies]).astype(np.float32), np.concatenate([grown_labels, grown_labels])


def augment(picture: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Mirrored by chance, turned by up to 15°, brightness and contrast changed by up to 0.2."""
    turned = cv2.warpAffine(
        picture[:, ::-1].copy() if random.random() < 0.5 else picture,
        cv2.getRotationMatrix2D(((SIDE - 1) / 2,) * 2, random.uniform(-15, 15), 1.0),
        (SIDE, SIDE),
        borderMode=cv2.BORDER_REFLECT_101,
    )
    gain, offset = 1 + random.uniform(-0.2, 0.2), random.uniform(-0.2, 0.2)
    return np.asarray(((turned - 0.5) * gain + 0.5 + offset).clip(0, 1), np.float32)


def build_network(n_classes: int) -> nn.Sequential:
    """Three blocks of 32, 64 and 128, dense 64, dropout: 167,172 parameters at 28 px grey and four classes."""
    layers: list[nn.Module] = []
    for before, width in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    side = SIDE // 8
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(128 * side * side, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, n_classes)
    )


def _run(part: Part, data: Data, n_epochs: int, seed: int) -> dict[str, float]:
    """Learn for `n_epochs`, whatever comes of it: nothing is chosen on what is measured."""
    n_classes = int(data.labels.max()) + 1
    torch.manual_seed(seed)
    network = build_network(n_classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    inputs, labels = torch.from_numpy(part.train)[:, None], torch.from_numpy(part.train_labels)
    for _ in range(n_epochs):
        network.train()
        for batch in torch.split(torch.randperm(len(inputs)), BATCH):
            if len(batch) == 1:
                continue
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    found = _score(network, part.test, part.test_labels)
    if data.new is not None:
        found |= {f"new_{name}": value for name, value in _score(network, equalise(data.new[0]), data.new[1]).items()}
    return found


def _score(network: nn.Sequential, values: NDArray[np.float32], labels: Labels) -> dict[str, float]:
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part) for part in torch.split(torch.from_numpy(values)[:, None], 256)])
    probabilities = torch.softmax(logits.double(), 1).numpy()
    scores = compute_scores(labels, probabilities, positive=1 if probabilities.shape[1] == 2 else None)
    return {name: float(scores[name][0]) for name in ("accuracy", "balanced_accuracy", "auc")}
