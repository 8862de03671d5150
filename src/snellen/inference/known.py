"""Which pictures a bundle knows: by salted hashes of their pixels, which tell an outsider nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from snellen.records.bundle import Manifest
from snellen.records.cohort import Sample


def compute_salted_hashes(salt: str, samples: Iterable[Sample]) -> tuple[str, ...]:
    """Sorted salted hashes of the samples' pixels: enough to find a picture again, not to learn what it shows."""
    return tuple(sorted({_hash(salt, sample) for sample in samples}))


def find_trained_on(manifest: Manifest, samples: Iterable[Sample]) -> set[str]:
    """Names of the samples whose pixels the model was trained or validated on."""
    return _find(manifest, manifest.trained_on.pixel_hashes, samples)


def find_own_test(manifest: Manifest, samples: Iterable[Sample]) -> set[str]:
    """Names of the samples whose pixels are in the test split of the run that made the bundle."""
    return _find(manifest, manifest.trained_on.test_hashes, samples)


def _find(manifest: Manifest, hashes: tuple[str, ...], samples: Iterable[Sample]) -> set[str]:
    known = set(hashes)
    return {sample.name for sample in samples if _hash(manifest.trained_on.salt, sample) in known}


def _hash(salt: str, sample: Sample) -> str:
    return hashlib.sha256(f"{salt}{sample.pixels_sha256}".encode()).hexdigest()[:32]
