"""The gate: is this picture of the kind the model was trained on? Distance of the embedding, NumPy only.

Distance (Lee et al. 2018, Mahalanobis, here without classes, in the leading principal components, with
what lies outside them added as one more component; Ren et al. 2021 show why both parts are needed).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snellen.core.errors import BundleError

GATE_FILE = "gate.npz"
_BLOCK = 1024


@dataclass(frozen=True)
class Gate:
    """`mean` `(D,)`, `components` `(D, K)` orthonormal, `scale` `(K + 1,)` their standard deviations, `limit` the
    distance beyond which a picture is foreign.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: NDArray[np.float32]
    limit: float

    def compute_distances(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(N, D)` → `(N,)`, root mean square of standardised components: about 1 for a picture as in training."""
        blocks = [embedding[start : start + _BLOCK] for start in range(0, len(embedding), _BLOCK)]
        return np.concatenate([np.zeros(0), *(self._compute_block(block) for block in blocks)])

    def _compute_block(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        centred = embedding.astype(np.float64) - self.mean
        inside = centred @ self.components
        outside = np.sqrt(np.maximum((centred**2).sum(1) - (inside**2).sum(1), 0))
        parts = np.column_stack([inside, outside]) / self.scale
        mean_square = (parts[:, :-1] ** 2).mean(1)
        return np.asarray(np.sqrt((mean_square + parts[:, -1] ** 2) / 2))


def load_gate(folder: Path) -> Gate:
    """Raises BundleError where the file does not hold a gate."""
    try:
        # opened here: NumPy leaves the file open where the archive is damaged
        with (folder / GATE_FILE).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Gate(stored["mean"], stored["components"], stored["scale"], float(stored["limit"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{folder / GATE_FILE} cannot be read: {error}", "Get the bundle again.") from error
