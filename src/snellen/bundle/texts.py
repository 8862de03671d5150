"""What a person reads in a bundle: the model card and the notice of licences."""

from __future__ import annotations

import html
import re

from snellen.core.letters import show_name
from snellen.metrics.decision import CALLED
from snellen.records.bundle import CLASS_MAP, Calibration, Manifest


def render_model_card(manifest: Manifest) -> str:
    """Markdown after Mitchell et al. 2019, with what software can state; the rest is marked for a person."""
    preprocess = manifest.preprocess
    classes = "\n".join(
        f"| {_show(name)} | {manifest.trained_on.class_counts.get(name, 0)} |" for name in manifest.classes
    )
    order = f"\nOrder: {' < '.join(map(_show, manifest.classes))}.\n" if manifest.ordered else ""
    points = "\n".join(
        f"| {point.name}{' (default)' * point.is_default} | {point.rule} | {point.threshold:.4f} | {point.chosen_on} |"
        for point in manifest.thresholds
    )
    thresholds = (
        f"""
## Operating points

Positive ({_show(manifest.positive or "")}) when its probability is at least the threshold.

| name | rule | threshold | chosen on |
| --- | --- | --- | --- |
{points}
"""
        if manifest.thresholds
        else ""
    )
    return f"""# {_show(manifest.name)}

{manifest.intended_use}

## Model

{manifest.task} classifier: {_name_backbone(manifest)} {_name_training(manifest)}, as one ONNX graph (uint8 pixels in, {
        _name_output(manifest)
    }
out). Pretrained weights: {manifest.weights.origin} ({manifest.weights.licence}).
Calibration: {_describe_calibration(manifest.calibration)}{_describe_decision(manifest)}{_describe_teacher(manifest)}

Input: one picture, brought to {preprocess.size}×{preprocess.size} px, {preprocess.channels} channel(s), \
fit {preprocess.fit}{", black border cut off" if preprocess.crop_border else ""}\
{f", CLAHE {preprocess.clahe:g}" if preprocess.clahe else ""}.
Pictures with more than 8 bits a channel: {
        "refused"
        if preprocess.window is None
        else f"values {preprocess.window[0]:g} to {preprocess.window[1]:g} become black to white"
    }. Transparent parts: {preprocess.background}.

## Training data

{manifest.trained_on.n_samples} pictures of {manifest.trained_on.n_patients} patients \
(how patients were told: {_show(manifest.trained_on.patient_rule)}).

| class | pictures |
| --- | --- |
{classes}
{order}{thresholds}
## Performance

{_tell_performance(manifest)}

## When it does not answer

`gate.npz` holds what training pictures look like to the network and as thumbnails, and their usual brightness,
contrast, sharpness and colour. A picture far from them gets `abstain` with the reason in words. From 20 pictures on,
`snellen predict` also says where all of them differ as a whole, as those of another camera do.{
        _describe_sets(manifest)
    }

## Where the evidence lies

`snellen predict BUNDLE PATH --maps DIR` draws it ({
        _name_maps(manifest)
    }). Whether such maps can be believed was checked in the run:
`evidence` in its `evaluation.json`.

## To be written by a person, in a file beside the bundle (this one is sealed by its hash)

Intended users and setting · what follows from each answer, and from none · who labelled the pictures and how ·
patients and devices not represented · known failures ·
ethical review and consent · contact.

Written by Snellen {manifest.snellen_version} on {manifest.created}.
"""


def _describe_sets(manifest: Manifest) -> str:
    conformal = manifest.conformal
    if conformal is None:
        return ""
    shared = (
        f" Shared by classes with few patients: {', '.join(map(_show, conformal.pooled))}." if conformal.pooled else ""
    )
    rows = "\n".join(
        f"| {_show(name)} | {1 - quantile:.4f} | {conformal.n_patients.get(name, 0)} |"
        for name, quantile in conformal.quantiles.items()
    )
    silent = (
        "A picture whose set is not one class gets no answer."
        if manifest.abstain_by == "set"
        else "A set only informs: it does not keep a picture from being answered."
    )
    return f"""

Each prediction names the set of classes that cannot be ruled out: of new pictures of a class, from the same
population, at least {conformal.coverage:.0%} have their class in it.{shared} {silent}

| class | in the set from a probability of | patients behind it |
| --- | --- | --- |
{rows}"""


def _name_maps(manifest: Manifest) -> str:
    return "class activation, exact" if CLASS_MAP in manifest.outputs else "by occlusion"


def _describe_decision(manifest: Manifest) -> str:
    """How a picture is called; nothing for the most probable class, which is what everybody expects."""
    return "" if manifest.decision == "most_probable" else f"\nA picture is called {CALLED[manifest.decision]}."


def _name_backbone(manifest: Manifest) -> str:
    return "a small network listed in its recipe" if manifest.backbone == "layers" else manifest.backbone


def _describe_teacher(manifest: Manifest) -> str:
    if manifest.distilled_from is None:
        return ""
    return (
        "\nOne network in place of a fold ensemble: it stands for the bundle whose manifest.json has the sha256 "
        f"{manifest.distilled_from}."
    )


def _tell_performance(manifest: Manifest) -> str:
    if manifest.distilled_from is None:
        return "See `report.html` and `evaluation.json` of the run: every number there was computed with this file."
    return (
        "See `evaluation-distilled.json` of the run and `distilled` in its `run.json`: these numbers were computed "
        "with this file. All others of the run are the ensemble's. Where there is no such file, nobody has measured it."
    )


def _name_training(manifest: Manifest) -> str:
    if not manifest.tuned_share:
        return "with a trained head"
    return f"with a trained head, {manifest.tuned_share:.0%} of its multiplications fine-tuned"


def _name_output(manifest: Manifest) -> str:
    if manifest.calibration.method != "none":
        return "calibrated probabilities"
    # compared on patients left out, none was the best: nothing is lacking
    return "probabilities, left as they are" if manifest.calibration.is_compared else "probabilities, not calibrated"


def _describe_calibration(calibration: Calibration) -> str:
    if calibration.method == "none":
        told = f"none. {calibration.reason}".strip()
        return told if calibration.is_compared else f"{told} A probability of 0.8 need not mean 80 of 100."
    fitted = f"T = {calibration.temperature:.3f}, fitted on {calibration.fitted_on} ({calibration.n} pictures)."
    return f"{calibration.method.replace('_', ' ')}, {fitted} {calibration.reason}".strip()


def render_notice(manifest: Manifest) -> str:
    """Licences of weights and data as far as known."""
    return f"""{manifest.name}
Made with Snellen {manifest.snellen_version} (Apache-2.0).

Pretrained weights
  network:  {manifest.backbone}
  origin:   {manifest.weights.origin}
  licence:  {manifest.weights.licence}
  sha256:   {manifest.weights.sha256 or "none"}

Training data
  The licence of the training pictures is not known to Snellen. Whoever trained this model must state it beside this
  file (which is sealed by its hash) before passing the bundle on: some licences forbid redistribution or
  commercial use of models derived from the data.

{manifest.intended_use}
"""


def _show(text: str) -> str:
    """A stranger's text inside Markdown, which may be shown as HTML."""
    return re.sub(r"([|`*_\[\]\\])", r"\\\1", html.escape(show_name(text), quote=False))
