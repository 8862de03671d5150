"""Options and paths that do not fit: nothing may be read, written or deleted then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from odd_cases import N_A_CLASS, Build, Case, write, write_classes

_N = 2 * N_A_CLASS


def _classes(*words: str, command: str = "audit") -> Build:
    """Two sound classes, and a command with these words."""

    def build(folder: Path) -> Sequence[str]:
        write_classes(folder / "data")
        return [command, "data", *words]

    return build


def _words(*words: str) -> Build:
    return lambda _: list(words)


def _with(name: str, content: str | bytes, *words: str, command: str = "audit") -> Build:
    """As `_classes`, with a file of the user's beside the data."""

    def build(folder: Path) -> Sequence[str]:
        write(folder / name, content)
        return _classes(*words, command=command)(folder)

    return build


def _rare(*words: str) -> Build:
    """A class of one picture beside two sound ones."""

    def build(folder: Path) -> Sequence[str]:
        write_classes(folder / "data", ("rare",), 1, first_seed=70_000)
        return _classes(*words)(folder)

    return build


OPTIONS = [
    Case("--patients that is no regular expression", _classes("--patients", "(["), 2, "no regular expression"),
    Case("--patients without a group", _classes("--patients", "p\\d+"), 2, "has no group"),
    Case("--patients that fits no name", _classes("--patients", "^(zzz)"), 2, "fits none"),
    Case("--patients that fits some names", _classes("--patients", "(p00[0-3])"), issue="patients_unknown", n=_N),
    Case("--patients none", _classes("--patients", "none"), issue="patients_unknown", n=_N),
    Case("--out that is a file", _with("out", "mine", "--out", "out"), 2, "is a file"),
    Case("--out inside the data", _classes("--out", "data/audit"), 2, "inside the data"),
    Case("--out that is the data", _classes("--out", "data"), 2, "is or contains the input"),
    Case("--out that exists", _with("out/thesis.txt", "mine", "--out", "out"), 2, "exists already"),
    Case("--out with other files, --overwrite", _with("out/thesis.txt", "mine", "--out", "out", "--overwrite"), 2,
         "stays as it is"),
    Case("--cache with other files", _with("mine/thesis.txt", "mine", "--cache", "mine"), 2, "holds other things"),
    Case("--cache that is a file", _with("mine", "mine", "--cache", "mine"), 2),
    Case("--cache below a file", _with("mine", "mine", "--cache", "mine/cache"), 2),
    Case("--strict with a severe issue", _rare("--strict"), 2, "severe issue"),
    Case("an unknown recipe", _classes("--recipe", "aut", command="plan"), 2, "Did you mean auto"),
    Case("a recipe that does not exist", _classes("--recipe", "mine.toml", command="plan"), 2, "mine.toml"),
    Case("a recipe that is no TOML", _with("mine.toml", "size = = 3", "--recipe", "mine.toml", command="plan"), 2,
         "mine.toml"),
    Case("a recipe of random bytes", _with("mine.toml", b"\xff\xfe\x00\x01", "--recipe", "mine.toml", command="plan"),
         2, "mine.toml"),
    Case("--set with an unknown key", _classes("--set", "preprocess.sise=3", command="plan"), 2,
         "preprocess.size?"),
    Case("--set with a value out of range", _classes("--set", "preprocess.size=3", command="plan"), 2,
         "preprocess.size"),
    Case("--set without a value", _classes("--set", "preprocess.size", command="plan"), 2, "preprocess.size"),
    Case("a seed below 0", _classes("--seed", "-1", command="plan"), 2, "--seed"),
    Case("an option that is not there", _classes("--colour", "blue"), 2, "No such option"),
    Case("a command that is not there", _words("trian", "data"), 2, "No such command"),
    Case("train without DATA", _words("train"), 2, "DATA or --resume"),
    Case("--resume of a folder that does not exist", _words("train", "--resume", "nowhere"), 2, "does not exist"),
    Case("predict without a bundle", _words("predict", "nowhere", "x.png"), 2, "does not exist"),
    Case("predict with a bundle of random bytes", lambda folder: [
        "predict", write(folder / "bundle" / "manifest.json", b"\x00\xff").parent.name, "x.png"], 2),
    Case("evaluate without a run", _words("evaluate", "nowhere"), 2, "does not exist"),
    Case("cache clear of a folder with other files", lambda folder: [
        "cache", "clear", "--cache", write(folder / "mine" / "thesis.txt", "mine").parent.name], 2,
        "Nothing was deleted"),
]  # fmt: skip
