"""The surest errors, like beside like: grouped by what the network makes of the pictures.

This room knows scores and embeddings. It must not know pictures, figures or HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snellen.records.evaluation import Score

MOST_ERRORS = 30
MOST_ALONE = 12
MOST_SHOWN = 6
_A_GROUP = 6
_MOST_GROUPS = 5


@dataclass(frozen=True)
class Group:
    """Errors that look alike to the network, the surest first; `told` counts what was called what."""

    scores: tuple[Score, ...]
    told: str
    most_shown: int

    @property
    def shown(self) -> tuple[Score, ...]:
        """Those that a page has room for."""
        return self.scores[: self.most_shown]


def group_errors(scores: Sequence[Score], classes: Sequence[str], embedding: NDArray[np.float32] | None) -> list[Group]:
    """Up to 30 of the surest errors in up to five groups, the largest first.

    `embedding` `(N, D)` has a row a score; without it all errors are one group. Ward's linkage on features standardised
    over all pictures.
    """
    places = {name: at for at, name in enumerate(classes)}
    wrong = [at for at, score in enumerate(scores) if score.prediction != score.label]
    wrong.sort(key=lambda at: (-scores[at].probabilities[places[scores[at].prediction]], scores[at].sample))
    wrong = wrong[:MOST_ERRORS]
    if not wrong:
        return []
    numbers = np.zeros(len(wrong), int) if embedding is None else _cluster(np.asarray(embedding, np.float64), wrong)
    groups = [
        tuple(scores[at] for at, own in zip(wrong, numbers, strict=True) if own == number)
        for number in dict.fromkeys(numbers.tolist())
    ]
    most = MOST_SHOWN if len(groups) > 1 else MOST_ALONE
    return [Group(each, _tell(each), most) for each in sorted(groups, key=lambda each: -len(each))]


def _cluster(embedding: NDArray[np.float64], wrong: Sequence[int]) -> NDArray[np.intp]:
    n_groups = min(_MOST_GROUPS, -(-len(wrong) // _A_GROUP))
    if n_groups < 2:
        return np.zeros(len(wrong), np.intp)
    from sklearn.cluster import AgglomerativeClustering

    spread = embedding.std(0)
    points = (embedding[list(wrong)] - embedding.mean(0)) / np.where(spread > 0, spread, 1)
    return np.asarray(AgglomerativeClustering(n_clusters=n_groups, linkage="ward").fit_predict(points), np.intp)


def _tell(scores: Sequence[Score]) -> str:
    counts = Counter((score.label, score.prediction) for score in scores)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{n} “{label}” called “{called}”" for (label, called), n in ordered)
