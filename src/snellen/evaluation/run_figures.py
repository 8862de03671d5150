"""Figures of a run: how it learned, and how many pictures of each class it learned from.

This room knows epochs and splits and how to draw them. It must not know scores, pages or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from snellen.evaluation.svg import (
    INK,
    LABEL_IN,
    MUTED,
    SERIES,
    Drawing,
    add_axes,
    drawing_style,
    new_figure,
    series_style,
    to_drawing,
    write_row_labels,
)
from snellen.evaluation.wording import name_split
from snellen.records.cohort import PARTS, Split
from snellen.records.run import ChosenHead, EpochRecord, StageOutcome

WIDTH_IN = 4.6
MAX_CLASSES_WITH_NUMBERS = 12


def draw_learning(epochs: Sequence[EpochRecord], chosen: ChosenHead | None) -> Drawing | None:
    """Loss and validation AUC by epoch for the chosen candidate; the others as thin lines behind."""
    own = select_candidate(epochs, chosen)
    if not own:
        return None
    x = [each.epoch for each in own]
    best = chosen.epoch if chosen is not None else _best(own).epoch
    with drawing_style():
        figure = new_figure(WIDTH_IN, 4.4)
        loss = add_axes(figure, 0.65, 2.35, WIDTH_IN - 0.8, 1.75)
        auc = add_axes(figure, 0.65, 0.5, WIDTH_IN - 0.8, 1.6)
        for other in _other_candidates(epochs, own[0]):
            _line(loss, other, "val_loss", None)
            _line(auc, other, "val_auc", None)
        loss.plot(x, [each.train_loss for each in own], color=SERIES[0], linestyle="-", label="training")
        _line(loss, own, "val_loss", "validation")
        _line(auc, own, "val_auc", "validation")
        for axes in (loss, auc):
            axes.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.grid(True)
            axes.set_xlim(min(x) - 0.5, max(x) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.tick_params(labelbottom=False)
        loss.set_ylabel("Loss")
        auc.set(ylabel="AUC, validation", xlabel="Epoch")
        handles = loss.get_legend_handles_labels()
        figure.legend(*handles, loc="upper left", bbox_to_anchor=(0.12, 1.01), ncols=2, handlelength=2.6)
        figure.text(1 - 0.15 / WIDTH_IN, 0.965, f"epoch {best} kept", ha="right", va="center", color=MUTED, fontsize=9)
        last = own[-1]
        loss_told = f"training loss from {own[0].train_loss:.3f} to {last.train_loss:.3f}"
        text = f"{len(own)} epochs; {loss_told}; epoch {best} kept."
        return to_drawing(figure, "learning", "Learning curves", text)


def draw_members(epochs: Sequence[EpochRecord]) -> Drawing | None:
    """Left-out loss and AUC by epoch for each member of a fold ensemble; the last point is what was kept."""
    members = sorted({each.fold for each in epochs if each.fold is not None})
    if not members:
        return None
    with drawing_style():
        figure = new_figure(WIDTH_IN, 4.4)
        loss = add_axes(figure, 0.65, 2.35, WIDTH_IN - 0.8, 1.75)
        auc = add_axes(figure, 0.65, 0.5, WIDTH_IN - 0.8, 1.6)
        for member in members:
            color, style, marker = series_style(member)
            own = [each for each in epochs if each.fold == member]
            for axes, field in ((loss, "val_loss"), (auc, "val_auc")):
                points = [(each.epoch, value) for each in own if (value := getattr(each, field)) is not None]
                if points:
                    x, y = zip(*points, strict=True)
                    axes.plot(x, y, color=color, linestyle=style, linewidth=1.1, label=f"{member}")
                    axes.plot(x[-1:], y[-1:], color=color, marker=marker, markersize=4)
        last = max(each.epoch for each in epochs)
        for axes in (loss, auc):
            axes.grid(True)
            axes.set_xlim(0.5, last + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.tick_params(labelbottom=False)
        loss.set_ylabel("Left-out loss")
        auc.set(ylabel="Left-out AUC", xlabel="Epoch")
        handles = loss.get_legend_handles_labels()
        figure.legend(
            *handles, loc="upper left", bbox_to_anchor=(0.12, 1.01), ncols=min(len(members), 6), handlelength=2
        )
        text = f"{len(members)} members; the last point of each line is what was kept."
        return to_drawing(figure, "learning", "Learning curves of the members", text)


def draw_finetuning(epochs: Sequence[EpochRecord], outcomes: Sequence[StageOutcome]) -> Drawing | None:
    """Loss and AUC by epoch of the fine-tuning stages on the pictures that choose; dotted where the model before stood.

    With folds a line a member; several stages follow each other.
    """
    if not epochs or not outcomes:
        return None
    lines: dict[int, list[EpochRecord]] = {}
    for each in sorted(epochs, key=lambda each: (each.stage, each.epoch)):
        lines.setdefault(each.fold or 0, []).append(each)
    first = [each for each in outcomes if each.stage == min(outcome.stage for outcome in outcomes)]
    with drawing_style():
        figure = new_figure(WIDTH_IN, 4.4)
        loss = add_axes(figure, 0.65, 2.35, WIDTH_IN - 0.8, 1.75)
        auc = add_axes(figure, 0.65, 0.5, WIDTH_IN - 0.8, 1.6)
        if len(lines) == 1:
            own = lines[min(lines)]
            x = range(1, len(own) + 1)
            loss.plot(x, [each.train_loss for each in own], color=SERIES[0], linestyle="-", label="training")
        for member, own in lines.items():
            color, style, marker = series_style(member if len(lines) > 1 else 1)
            label = f"{member}" if len(lines) > 1 else "validation"
            for axes, field in ((loss, "val_loss"), (auc, "val_auc")):
                points = [(at, value) for at, each in enumerate(own, 1) if (value := getattr(each, field)) is not None]
                if points:
                    places, values = zip(*points, strict=True)
                    axes.plot(places, values, color=color, linestyle=style, marker=marker, markersize=3, label=label)
        for outcome in first:
            color = series_style(outcome.fold or 0)[0] if len(lines) > 1 else INK
            loss.axhline(outcome.before_loss, color=color, linewidth=0.8, linestyle=(0, (2, 2)))
            if outcome.before_auc is not None:
                auc.axhline(outcome.before_auc, color=color, linewidth=0.8, linestyle=(0, (2, 2)))
        for outcome in outcomes if len(lines) == 1 and len(outcomes) == 1 else ():
            for axes in (loss, auc):
                axes.axvline(outcome.epoch, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        last = max(len(own) for own in lines.values())
        for axes in (loss, auc):
            axes.grid(True)
            axes.set_xlim(0.5, last + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        loss.tick_params(labelbottom=False)
        loss.set_ylabel("Loss")
        auc.set(ylabel="AUC", xlabel="Epoch")
        handles = loss.get_legend_handles_labels()
        figure.legend(*handles, loc="upper left", bbox_to_anchor=(0.12, 1.01), ncols=min(len(lines) + 1, 6))
        kept = sum(outcome.kept for outcome in outcomes)
        text = f"{last} epochs; {kept} of {len(outcomes)} stages kept; dotted level lines are the model before."
        return to_drawing(figure, "finetuning", "Fine-tuning", text)


def draw_class_counts(splits: Sequence[Split], classes: Sequence[str]) -> Drawing | None:
    """Pictures of each class in each split, with the number at the end of each bar unless there are many."""
    counts = Counter[tuple[str, str]]((each.split, each.label) for each in splits)
    shown = [split for split in PARTS if any(key[0] == split for key in counts)]
    if not shown:
        return None
    is_dense = len(classes) > MAX_CLASSES_WITH_NUMBERS
    row = 0.08 if is_dense else 0.19
    group = row * len(shown) + (0.06 if is_dense else 0.16)
    height = group * len(classes) + 0.5
    most = max(counts.values())
    with drawing_style():
        figure = new_figure(WIDTH_IN, height)
        axes = add_axes(figure, LABEL_IN, 0.4, WIDTH_IN - LABEL_IN - 0.6, height - 0.45)
        for number, split in enumerate(shown):
            places = [k * group + row * (number + 0.5) for k in range(len(classes))]
            values = [counts[split, name] for name in classes]
            label = name_split(split)
            axes.barh(places, values, height=row * 0.8, color=series_style(number)[0], label=label, linewidth=0)
            for place, value in zip(places, values, strict=True) if not is_dense else ():
                axes.annotate(f"{value}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set(xlim=(0, most), ylim=(len(classes) * group - 0.08, -0.08))
        middles = [k * group + row * len(shown) / 2 for k in range(len(classes))]
        write_row_labels(axes, middles, classes)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        figure.legend(loc="lower left", bbox_to_anchor=(LABEL_IN / WIDTH_IN - 0.03, 0), ncols=3, handlelength=1)
        text = "; ".join(
            f"{name}: " + ", ".join(f"{counts[s, name]} {name_split(s)}" for s in shown) for name in classes
        )
        return to_drawing(figure, "counts", "Pictures by class and split", text)


def select_candidate(epochs: Sequence[EpochRecord], chosen: ChosenHead | None) -> list[EpochRecord]:
    """The epochs of the candidate that validation chose; without a record of the choice, of the best one."""
    own = [each for each in epochs if chosen is None or each.weight_decay == chosen.weight_decay]
    if not own:
        return []
    candidate = (_best(own).stage, _best(own).candidate)
    return [each for each in own if (each.stage, each.candidate) == candidate]


def _best(epochs: Sequence[EpochRecord]) -> EpochRecord:
    """Lowest validation loss; training loss where nothing was validated."""
    return min(epochs, key=lambda each: each.train_loss if each.val_loss is None else each.val_loss)


def _other_candidates(epochs: Sequence[EpochRecord], own: EpochRecord) -> list[list[EpochRecord]]:
    others: dict[int, list[EpochRecord]] = {}
    for each in epochs:
        if each.stage == own.stage and each.candidate != own.candidate:
            others.setdefault(each.candidate, []).append(each)
    return list(others.values())


def _line(axes: Axes, epochs: Sequence[EpochRecord], field: str, label: str | None) -> None:
    """One validation curve: strong with a label, thin and grey without."""
    points = [(each.epoch, getattr(each, field)) for each in epochs if getattr(each, field) is not None]
    if not points:
        return
    x, y = zip(*points, strict=True)
    if label is None:
        axes.plot(x, y, color=MUTED, linewidth=0.6, alpha=0.5)
    else:
        axes.plot(x, y, color=SERIES[1], linestyle=(0, (5, 1.5)), marker="o", markersize=3, label=label)
