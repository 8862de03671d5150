"""How many transformed copies are found, and what is taken for a copy and is none.

    python bench/copies.py made fundus --bases 60 --each 6                          phantoms: oct, fundus, glomeruli
    python bench/copies.py made idrid/images --each 12 --json idrid.json             pictures of a folder
    python bench/copies.py apart --kind fundus --patients 40                         two eyes, two visits: no copies
    python bench/copies.py real fundus4/cataract --json real.json                    ready-made copies, `_K_N.jpg`
    python bench/copies.py time --sizes 250 500 1000 --threads 2                     seconds by number of pictures

All go through the product's search and its thresholds. What is a copy of what is told by `copies_made.py` and, for the
real case, by `copies_oracle.py`, which lays every turn of every copy on every original.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from copies_made import KINDS, Pixels
from copies_oracle import FIRST_LISTING, compare_exhaustively, find_truth, read_number

from snellen.core.runtime import count_threads
from snellen.imaging.readers import list_pictures, read_location
from snellen.imaging.sketch import SketchStore, encode_sketch, make_sketch
from snellen.ingest.copies import find_copies, group_copies
from snellen.ingest.phantom import KINDS as PHANTOMS
from snellen.ingest.phantom import draw_picture, list_labels
from snellen.records.cohort import CopyLink, Sample

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
Groups = Sequence[Sequence[str]]


def search(pictures: dict[str, Pixels], threads: int) -> tuple[tuple[CopyLink, ...], Groups, float]:
    """Links, groups and seconds, of pictures by name."""
    samples = [Sample(name=name, location=name, label="", patient=name, pixels_sha256=name) for name in pictures]
    with tempfile.TemporaryDirectory() as folder:
        store = SketchStore(Path(folder))
        begin = time.perf_counter()
        store.add({name: encode_sketch(make_sketch(pixels)) for name, pixels in pictures.items()})
        links = find_copies(samples, store, Path(folder), threads)
        return links, group_copies(samples, links), time.perf_counter() - begin


def load(data: str, n: int) -> list[Pixels]:
    """Phantoms of a kind, each of another patient, or the pictures below a folder."""
    if data in PHANTOMS:
        labels = list_labels(data)
        return [draw_picture(data, labels[k % len(labels)], patient_seed=k) for k in range(n)]
    paths = sorted(path for path in Path(data).rglob("*") if path.suffix.lower() in SUFFIXES)
    step = max(1, len(paths) // n) if n else 1
    return [np.asarray(read_location(path.parent, path.name).pixels, np.uint8) for path in paths[::step][: n or None]]


def run_made(args: argparse.Namespace) -> dict[str, Any]:
    """Recall by kind of transformation; precision of all linked pairs."""
    bases, random = load(args.data, args.bases), np.random.default_rng(0)
    pictures = {f"{number}": pixels for number, pixels in enumerate(bases)}
    kind_of: dict[str, str] = {}
    for kind, strengths in KINDS.items():
        for strength, make in strengths.items():
            for base in random.choice(len(bases), min(args.each, len(bases)), replace=False).tolist():
                name = f"{base}|{kind}: {strength}"
                pictures[name], kind_of[name] = make(bases[base], random), f"{kind}: {strength}"
    links, groups, seconds = search(pictures, args.threads)
    same = find_repeated(links)
    found: dict[str, list[bool]] = defaultdict(list)
    group_of = {name: set(names) for names in groups for name in names}
    for name, kind in kind_of.items():
        found[kind].append(name.partition("|")[0] in group_of.get(name, ()))
    pairs = [(link.first.partition("|")[0], link.second.partition("|")[0]) for link in links]
    grouped = [(a.partition("|")[0], b.partition("|")[0]) for names in groups for a, b in combinations(names, 2)]
    right, right_grouped = (sum(is_same(pair, same) for pair in some) for some in (pairs, grouped))
    rows = [{"kind": kind, "n": len(all_of), "found": sum(all_of)} for kind, all_of in found.items()]
    for row in rows:
        print(f"{row['kind']:<48}{row['found']:>5} of {row['n']}")
    n_found = sum(row["found"] for row in rows)
    print(f"all: {n_found} of {len(kind_of)} found; {right} of {len(pairs)} linked pairs and {right_grouped} of "
          f"{len(grouped)} grouped pairs are right; {seconds:.0f} s for {len(pictures)} pictures")  # fmt: skip
    print("originals that repeat or resemble each other:", sorted(map(sorted, same)))
    return {
        "data": Path(args.data).name, "n_bases": len(bases), "n_copies": len(kind_of), "n_found": n_found,
        "n_links": len(pairs), "n_right": right, "n_grouped": len(grouped), "n_grouped_right": right_grouped,
        "repeated": sorted(map(sorted, same)), "by_kind": rows, "seconds": seconds,
    }  # fmt: skip


def find_repeated(links: Sequence[CopyLink]) -> set[frozenset[str]]:
    """Pairs of untouched originals that are linked: listed, to be looked at; a set may hold copies of its own."""
    return {frozenset((link.first, link.second)) for link in links if "|" not in link.first + link.second}


def is_same(pair: tuple[str, str], repeated: set[frozenset[str]]) -> bool:
    return pair[0] == pair[1] or frozenset(pair) in repeated


def run_apart(args: argparse.Namespace) -> dict[str, Any]:
    """Phantoms of both eyes and of two pictures an eye: nothing here is a copy."""
    labels = list_labels(args.kind)
    pictures = {
        f"{patient} {eye} {visit}": draw_picture(
            args.kind, labels[patient % len(labels)], patient_seed=patient, eye=eye, picture=visit
        )
        for patient in range(args.patients)
        for eye in ("left", "right")
        for visit in (0, 1)
    }
    links, _, _ = search(pictures, args.threads)
    told = {"two visits": 0, "fellow eyes": 0, "two patients": 0}
    for link in links:
        one, other = link.first.split(), link.second.split()
        kind = "two patients" if one[0] != other[0] else "two visits" if one[1] == other[1] else "fellow eyes"
        told[kind] += 1
    n = args.patients
    totals = {"two visits": 2 * n, "fellow eyes": 4 * n, "two patients": 8 * n * (n - 1)}
    for kind, count in told.items():
        print(f"{kind:<14}{count:>5} of {totals[kind]} pairs taken for copies")
    return {"kind": args.kind, "n_patients": n, "pairs": totals, "linked": told}


def run_real(args: argparse.Namespace) -> dict[str, Any]:
    """Ready-made copies `_K_N.jpg` against originals, as `copies_oracle.py` tells them."""
    root = Path(args.data)
    names = sorted(path.name for path in root.iterdir() if path.suffix.lower() in SUFFIXES and list_pictures(str(path)))
    pictures = {name: make_sketch(read_location(root, name).pixels) for name in names}
    links, groups, seconds = search(pictures, args.threads)
    result = judge_real(pictures, links, groups)
    for key, value in result.items():
        print(f"{key}: {value}")
    return {**result, "n_pictures": len(names), "seconds": seconds}


def judge_real(pictures: dict[str, Pixels], links: Sequence[CopyLink], groups: Groups) -> dict[str, Any]:
    """Recall of copies whose original is there; precision of the pairs of copy and original."""
    numbers = {name: read_number(name) for name in pictures}
    copies = [name for name, number in numbers.items() if number is not None]
    originals = sorted(name for name, number in numbers.items() if number is None)
    alike = compare_exhaustively([pictures[name] for name in copies], [pictures[name] for name in originals])
    truth = find_truth([numbers[name] or 0 for name in copies], range(len(originals)), alike)
    original_of = {name: originals[truth[number]] for name in copies if (number := numbers[name] or 0) in truth}
    group_of = {name: set(names) for names in groups for name in names}
    linked = [name for name in original_of if original_of[name] in group_of.get(name, ())]
    claims = [(a, b) for names in groups for a in names if numbers[a] is not None for b in names if numbers[b] is None]
    right = [pair for pair in claims if original_of.get(pair[0]) == pair[1]]
    wrong = [pair for pair in claims if pair[0] in original_of and original_of[pair[0]] != pair[1]]
    untold = len(claims) - len(right) - len(wrong)
    return {
        "n_copies": len(copies),
        "n_in_a_group": sum(name in group_of for name in copies),
        "n_with_original": len(original_of),
        "n_linked_to_it": len(linked),
        "n_claims": len(claims), "n_right": len(right), "n_wrong": len(wrong), "n_untold": untold,
        "first_listing": FIRST_LISTING,
        "not_linked": sorted(set(original_of) - set(linked)),
        "wrong": sorted(wrong),
        "n_links": len(links),
    }  # fmt: skip


def run_time(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the whole search, sketches made and kept, on phantoms of fundi of which a tenth are turned copies."""
    rows = []
    for n in args.sizes:
        bases = load("fundus", n - n // 10)
        random = np.random.default_rng(0)
        copies = [KINDS["combined"]["all"](bases[k], random) for k in range(n // 10)]
        pictures = {f"{k}": pixels for k, pixels in enumerate([*bases, *copies])}
        _, groups, seconds = search(pictures, args.threads)
        rows.append({"n": n, "seconds": seconds, "n_groups": len(groups)})
        print(f"{n:>7} pictures{seconds:>9.1f} s{1000 * seconds / n:>8.0f} ms a picture; {len(groups)} groups")
    return {"threads": args.threads, "rows": rows}


def main() -> None:
    """One of the four, its table printed and its numbers written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "made": run_made, "apart": run_apart, "real": run_real, "time": run_time,
    }  # fmt: skip
    for name in runs:
        command = commands.add_parser(name)
        command.add_argument("--threads", type=int, default=count_threads())
        command.add_argument("--json", type=Path)
        if name in ("made", "real"):
            command.add_argument("data")
        if name == "made":
            command.add_argument("--bases", type=int, default=0, help="so many originals; 0: all of a folder")
            command.add_argument("--each", type=int, default=8, help="copies of each kind and strength")
        if name == "apart":
            command.add_argument("--kind", default="fundus", choices=PHANTOMS)
            command.add_argument("--patients", type=int, default=40)
        if name == "time":
            command.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000])
    args = parser.parse_args()
    result = runs[args.command](args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
