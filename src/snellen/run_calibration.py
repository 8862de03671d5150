"""On what a bundle is calibrated: the pictures that chose the model, or, of a large cohort, others kept for this."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from snellen.core.progress import say
from snellen.records.cohort import Sample
from snellen.run_features import encode_labels
from snellen.run_finetuning import Tuned
from snellen.run_learning import Learned
from snellen.run_networks import Bench, compute_network_logits
from snellen.training.features import FeatureStore

RESERVED = "calibration"


def hold_for_calibration(bench: Bench, store: FeatureStore, learned: Learned, tuned: Tuned) -> Learned:
    """What calibration, thresholds, sets and the gate's limit are fitted on, with the final model's logits of it.

    That is what chose the model, unless the splits have a part for it: its pictures chose nothing.
    """
    samples = bench.prepared.members(RESERVED)
    if not samples:
        return replace(learned, logits=tuned.logits)
    say(f"Calibrating on {len(samples)} pictures that chose nothing")
    rows = bench.pixels.select(samples)
    # of a fine-tuned network the gate takes embeddings of its own, from the exported graph
    embedding = learned.gate_val if tuned.changes_backbone else store.compute(rows, 0).load()[0]
    return replace(
        learned,
        held_name=RESERVED,
        samples=samples,
        labels=encode_labels(samples, bench.plan),
        logits=_compute_logits(bench, learned, tuned, (rows, embedding)),
        gate_val=embedding,
    )


def list_learned_from(bench: Bench) -> list[Sample]:
    """Pictures that had a say in the bundle, whatever it was: what chose first."""
    return [sample for part in ("val", "train", RESERVED) for sample in bench.prepared.members(part)]


def _compute_logits(
    bench: Bench, learned: Learned, tuned: Tuned, pictures: tuple[NDArray[np.intp], NDArray[np.float32]]
) -> NDArray[np.float64]:
    rows, embedding = pictures
    if tuned.networks:
        return compute_network_logits(bench, tuned.networks[0], rows)
    with torch.no_grad():
        return np.asarray(learned.head(torch.from_numpy(embedding)).double().numpy())
