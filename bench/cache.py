"""Building the pixel cache against bare decoding of the same files at the same scale with the same threads.

    python bench/cache.py DATA [--columns …] [--size 224] [--json FILE]

Decoding is Pillow's, as in the product; the ratio tells what preprocessing and writing add. Limit: 1.3.
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

from snellen.core.runtime import count_threads
from snellen.imaging.cache import build_pixel_cache
from snellen.imaging.preprocess import choose_min_side_px
from snellen.ingest.cohort import read_cohort
from snellen.records.plan import PreprocessPlan
from snellen.records.run import DataRequest

LIMIT = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--columns", default="")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--crop-border", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    columns = dict(part.split("=") for part in args.columns.split(",") if part)
    plan = PreprocessPlan(
        size=args.size, fit="pad", crop_border=args.crop_border, clahe=0, channels=args.channels, normalize="weights"
    )
    threads = count_threads()
    with tempfile.TemporaryDirectory() as cache:
        source = DataRequest(data=str(Path(args.data).resolve()), columns=columns)
        cohort = read_cohort(source, threads=threads, cache=Path(cache))
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
    print(f"median ratio {median:.2f} (limit {LIMIT}), {len(files)} files, {plan.size} px")
    if args.json:
        args.json.write_text(json.dumps({"median_ratio": median, "limit": LIMIT, "runs": rows}, indent=2))


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
