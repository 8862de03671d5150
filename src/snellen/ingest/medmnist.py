"""The published MedMNIST sets: which there are, how they are fetched, and where a fetched one lies.

Names, addresses, sizes and checksums come from the package `medmnist`; only its table is read, because importing it
would load torch. Reading a fetched file is `ingest/arrays.py`.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snellen.core.download import Patience, download, require_http
from snellen.core.errors import DataError, FetchError, UsageError
from snellen.core.progress import say, show_bar
from snellen.core.storage import choose_data_folder, explain_os_error
from snellen.ingest.arrays import MEDMNIST_CLASSES

SIZES = (28, 64, 128, 224)
_NAME = re.compile(r"(?P<name>[a-z]+mnist(?:3d)?)(?:_(?P<size>28|64|128|224))?", re.IGNORECASE)


@dataclass(frozen=True)
class PublishedSet:
    """One set. `files` maps the side in px to address and MD5; `out_of_scope` says why Snellen does not read it."""

    name: str
    task: str
    classes: tuple[str, ...]
    n_samples: int
    licence: str
    files: Mapping[int, tuple[str, str]]
    out_of_scope: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file on this machine, as published. `is_new`: this call brought it."""

    name: str
    path: Path
    url: str
    md5: str
    n_bytes: int
    is_new: bool


def list_sets() -> dict[str, PublishedSet]:
    """All sets that the installed `medmnist` knows, by name, those out of scope last. Raises FetchError."""
    found = [_describe(name, info) for name, info in _read_table().items()]
    return {item.name: item for item in sorted(found, key=lambda item: bool(item.out_of_scope))}


def fetch_set(
    name: str,
    *,
    size: int | None = None,
    out: Path | None = None,
    mirror: str | None = None,
    patience: Patience | None = None,
) -> Fetched:
    """Download one set into `out`, else the data folder, resuming where an earlier call broke off.

    `size` is the side in px; without it the one in the name (`octmnist_64`), else 28.
    `mirror` is the address of a folder with the published files. Raises UsageError for a name, size or mirror that is
    none, FetchError where the download fails.
    """
    wanted, side = _split_name(name, size)
    sets = list_sets()
    chosen = _choose(sets, wanted)
    if side not in chosen.files:
        raise UsageError(
            f"{chosen.name} is not published at --size {side}.", f"Sizes are {', '.join(map(str, chosen.files))}."
        )
    url, md5 = chosen.files[side]
    file_name = name_file(chosen.name, side)
    if mirror is not None:
        require_http(mirror)
        url = f"{mirror.rstrip('/')}/{file_name}"
    folder = out or choose_data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    path = folder / file_name
    say(f"{chosen.name}, {side} px, {chosen.licence}: {url}")
    with show_bar(f"Fetching {file_name}", "MB") as advance:
        is_new = download(
            url, path, md5, lambda done, total: advance(done // 10**6, max(done, total) // 10**6), patience
        )
    return Fetched(chosen.name, path, url, md5, path.stat().st_size, is_new)


def name_file(name: str, size: int) -> str:
    """As published: `octmnist.npz` for 28 px, `octmnist_64.npz` for 64."""
    return f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz"


def find_fetched(data: str) -> Path | None:
    """Where the set called `data` (`octmnist`, `octmnist_64`) lies; None where `data` names no set.

    Raises DataError where it has not been fetched.
    """
    match = _NAME.fullmatch(data)
    name = match["name"].lower() if match else ""
    if match is None or name not in MEDMNIST_CLASSES:
        return None
    size = int(match["size"] or SIZES[0])
    path = choose_data_folder() / name_file(name, size)
    if not path.is_file():
        raise DataError(
            f"{data} is neither a file nor a folder here, and the MedMNIST set of that name has not been fetched.",
            f"snellen fetch {name}" + (f" --size {size}" if size != SIZES[0] else ""),
        )
    return path


def _split_name(name: str, size: int | None) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None or match["size"] is None:
        return name.lower(), SIZES[0] if size is None else size
    told = int(match["size"])
    if size not in (None, told):
        raise UsageError(f"{name} and --size {size} contradict each other.", f"Write {match['name']} --size {size}.")
    return match["name"].lower(), told


def _choose(sets: Mapping[str, PublishedSet], name: str) -> PublishedSet:
    chosen = sets.get(name)
    if chosen is None:
        known = [item.name for item in sets.values() if not item.out_of_scope]
        near = difflib.get_close_matches(
            name, [*known, *(item.removesuffix("mnist") for item in known)], n=1, cutoff=0.5
        )
        hint = f"Did you mean {near[0].removesuffix('mnist')}mnist? " if near else ""
        raise UsageError(f"There is no MedMNIST set {name!r}.", f"{hint}Sets: {', '.join(known)}.")
    if chosen.out_of_scope:
        raise UsageError(
            f"{name} is out of scope: {chosen.out_of_scope}.", "Snellen is for one label a picture; see snellen fetch."
        )
    return chosen


def _read_table() -> dict[str, dict[str, Any]]:
    """The table INFO of the package `medmnist`, read as text: no line of the package runs."""
    try:
        found = importlib.util.find_spec("medmnist")
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise FetchError(
            "The package medmnist, which tells addresses and checksums, is not installed.",
            "pip install 'snellen[fetch]'",
        )
    path = Path(next(iter(found.submodule_search_locations))) / "info.py"
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "INFO" for target in node.targets):
                table: dict[str, dict[str, Any]] = ast.literal_eval(node.value)
                return table
        problem = "it holds no INFO"
    except (OSError, ValueError, SyntaxError) as error:
        problem = str(error)
    raise FetchError(
        f"{path} cannot be understood: {problem}.", "Install a version of medmnist that this version of Snellen knows."
    )


def _describe(name: str, info: dict[str, Any]) -> PublishedSet:
    files = {}
    for size in SIZES:
        ending = "" if size == SIZES[0] else f"_{size}"
        if f"url{ending}" in info and f"MD5{ending}" in info:
            files[size] = (str(info[f"url{ending}"]), str(info[f"MD5{ending}"]))
    task = str(info["task"])
    reason = ""
    if name.endswith("3d"):
        reason = "its samples are volumes (3D)"
    elif task.startswith("multi-label"):
        reason = "its pictures carry several labels each (multi-label)"
    return PublishedSet(
        name=name,
        task=task,
        classes=tuple(info["label"].values()),
        n_samples=sum(info["n_samples"].values()),
        licence=str(info.get("license", "unknown")),
        files=files,
        out_of_scope=reason,
    )
