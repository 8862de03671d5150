"""Building the pixel cache against bare decoding of the same files at the same scale with the same threads.

    python bench/cache.py DATA [--columns …] [--set preprocess.size=224] [--json FILE]

The preprocessing is what `auto` plans for the data. Decoding is Pillow's, as in the product; the ratio tells what
preprocessing and writing add. Limit: 1.3.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from snellen.imaging.cache import build_pixel_cache
from snellen.imaging.preprocess import choose_min_side_px
from snellen.planning.recipe_files import load_recipe
from snellen.records.run import DataRequest, TrainRequest
from snellen.run_preparation import prepare

LIMIT = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    with tempfile.TemporaryDirectory() as cache:
        source = DataRequest(data=str(Path(args.data).resolve()), columns=columns, cache=cache)
        settings = tuple(args.settings)
        prepared = prepare(TrainRequest(source=source, settings=settings), load_recipe("auto", settings))
    plan, threads = prepared.plan.preprocess, prepared.plan.training.threads
    cohort = prepared.cohort
    root = Path(cohort.root)
    files = [root / sample.location for sample in {s.pixels_sha256: s for s in cohort.samples}.values()]
    rows = []
    for _ in range(args.runs):
        bare = _time_bare(files, choose_min_side_px(plan), threads)
        with tempfile.TemporaryDirectory() as cache:
            begin = time.perf_counter()
            build_pixel_cache(cohort.samples, root, plan, Path(cache), threads=threads)
            rows.append((bare, time.perf_counter() - begin))
    print(f"{'bare s':>8} {'cache s':>8} {'ratio':>6}")
    for bare, built in rows:
        print(f"{bare:8.2f} {built:8.2f} {built / bare:6.2f}")
    median = statistics.median(built / bare for bare, built in rows)
    border = ", border cropped" if plan.crop_border else ""
    print(f"median ratio {median:.2f} (limit {LIMIT}), {len(files)} files, {plan.size} px{border}")
    if args.json:
        found = {"median_ratio": median, "limit": LIMIT, "preprocess": plan.model_dump(), "runs": rows}
        args.json.write_text(json.dumps(found, indent=2))


def _time_bare(files: list[Path], min_side_px: int, threads: int) -> float:
    def decode(path: Path) -> int:
        image = Image.open(io.BytesIO(path.read_bytes()))
        image.draft(None, (min_side_px, min_side_px))
        return int(np.asarray(image).shape[0])

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        sum(pool.map(decode, files))
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
