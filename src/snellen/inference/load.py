"""From a bundle's folder to a Predictor: every file's hash is checked before anything is used.

The manifest knows the hashes of the other files; the finished run in which a bundle lies knows the manifest's.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from snellen.core.arguments import to_path
from snellen.core.errors import BundleError, StorageError
from snellen.core.runtime import count_threads
from snellen.core.storage import compute_sha256, read_json
from snellen.inference.gate import GATE_FILE, load_gate
from snellen.inference.predictor import OpenedBundle, Predictor
from snellen.inference.session import GraphSession
from snellen.records.bundle import INPUT, MANIFEST_SCHEMA, MEMBER_OUTPUTS, OUTPUTS, Manifest
from snellen.records.seeds import SEEDS_FILE

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


def load_bundle(path: str | Path, *, threads: int | None = None, serves: bool = False) -> Predictor:
    """Open a bundle, or the bundle of a run. Raises BundleError for a missing or altered file, or another version.

    `serves=True` is for processes that decode and score at once: see GraphSession.
    """
    folder = find_bundle(to_path(path, "BUNDLE"))
    check_manifest(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    session = GraphSession(folder / MODEL_FILE, threads=threads or count_threads(), serves=serves)
    wanted = {*OUTPUTS, *(MEMBER_OUTPUTS if manifest.n_members > 1 else ())}
    if session.input_name != INPUT or not wanted <= set(session.outputs):
        raise BundleError(f"{folder / MODEL_FILE} has other inputs or outputs than a bundle.", "Get the bundle again.")
    if session.n_classes not in (None, len(manifest.classes)):
        raise BundleError(
            f"{folder / MODEL_FILE} knows {session.n_classes} classes, the manifest {len(manifest.classes)}.",
            "Get the bundle again.",
        )
    gate = load_gate(folder) if GATE_FILE in manifest.files else None
    return Predictor(OpenedBundle(manifest, folder, compute_sha256(folder / MANIFEST_FILE)), session, gate)


def check_manifest(folder: Path) -> None:
    """Raise BundleError where the finished run around the bundle wrote another manifest.

    A bundle that has left its run, or whose run cannot be read, is opened by its own word.
    """
    expected = _find_manifest_hash(folder.resolve())
    if expected is not None and compute_sha256(folder / MANIFEST_FILE) != expected:
        raise BundleError(
            f"{folder / MANIFEST_FILE} was altered: its sha256 is not the one in run.json of the run around it.",
            "Do not use this bundle: take it from a backup, or train again.",
        )


def _find_manifest_hash(folder: Path) -> str | None:
    with contextlib.suppress(StorageError):
        record = read_json(folder.parent / "run.json")
        if isinstance(record, dict) and record.get("state") == "finished" and isinstance(record.get("sha256"), dict):
            found = record["sha256"].get(f"{folder.name}/{MANIFEST_FILE}")
            return found if isinstance(found, str) else None
    return None


def find_bundle(path: Path) -> Path:
    """The folder with the manifest: `path` itself or `path/bundle`."""
    for folder in (path, path / "bundle"):
        if (folder / MANIFEST_FILE).is_file():
            return folder
    for run in (path, path.parent):
        if is_running(run):
            raise BundleError(
                f"The run {run} is not finished: it holds no bundle yet.",
                f"Go on with it: snellen train --resume {shlex.quote(str(run))}",
            )
    if (path / SEEDS_FILE).is_file():
        raise BundleError(
            f"{path} holds the runs of several seeds.", f"Give one of them; {path / SEEDS_FILE} recommends one."
        )
    if not path.exists():
        raise BundleError(f"The bundle {path} does not exist.", "Give the bundle folder, or the run that contains it.")
    raise BundleError(
        f"{path} is no bundle: it holds no {MANIFEST_FILE}.", "Give the bundle folder, or the run that contains it."
    )


def is_running(path: Path) -> bool:
    """Whether `path` is a run that was interrupted, or that still goes on."""
    try:
        content = read_json(path / "run.json")
    except StorageError:
        return False
    return isinstance(content, dict) and content.get("state") == "running"


def read_manifest(folder: Path) -> Manifest:
    """The validated manifest of a bundle."""
    try:
        content = read_json(folder / MANIFEST_FILE)
    except StorageError as error:
        raise BundleError(error.message, "The manifest is damaged: get the bundle again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != MANIFEST_SCHEMA:
        raise BundleError(
            f"{folder / MANIFEST_FILE} has schema version {version}; this Snellen reads {MANIFEST_SCHEMA}.",
            "Use the Snellen version that wrote it, or write the bundle again.",
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{folder / MANIFEST_FILE}: {place}: {first['msg'].removeprefix('Value error, ')}",
            "The manifest is damaged: get the bundle again.",
        ) from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BundleError that names every file which is missing or whose hash is wrong."""
    if MODEL_FILE not in manifest.files:
        raise BundleError(f"The manifest of {folder} does not list {MODEL_FILE}.", "Get the bundle again.")
    wrong = []
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            wrong.append(f"{name} lies outside the bundle")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif compute_sha256(path) != expected:
            wrong.append(f"{name} was altered (sha256 differs from the manifest)")
    if wrong:
        raise BundleError(
            f"The bundle {folder} is not what was measured: {'; '.join(wrong)}.",
            "Do not use it: get the bundle again from the run.",
        )


def check_vectors(predictor: Predictor) -> float:
    """Largest difference of probability between this machine and the one that wrote the bundle's `vectors/`.

    Raises BundleError where the preprocessing of a vector gives other pixels than it gave there.
    """
    folder = predictor.folder / "vectors"
    if "vectors/expected.npz" not in predictor.manifest.files:
        raise BundleError(f"The bundle {predictor.folder} holds no vectors.", "Get the bundle again from the run.")
    with np.load(folder / "expected.npz", allow_pickle=False) as expected:
        names = [str(name) for name in expected["names"]]
        pixels, probabilities = expected["pixels"], expected["probabilities"]
    prepared = np.stack([predictor.prepare(folder / name) for name in names])
    if not np.array_equal(prepared, pixels):
        worst = int(np.abs(prepared.astype(np.int16) - pixels.astype(np.int16)).max())
        raise BundleError(
            f"The vectors of {predictor.folder} are preprocessed to other pixels here (up to {worst} levels).",
            "Use the versions of Pillow and OpenCV that are named in the run's run.json.",
        )
    return float(np.abs(predictor.score_pixels(prepared).probabilities - probabilities).max())
