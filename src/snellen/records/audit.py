"""What the audit measured beyond its issues: shortcuts, likely wrong labels, whether there is enough of each class."""

from __future__ import annotations

from pydantic import model_validator

from snellen.records.base import Record
from snellen.records.evaluation import Estimate


class Giveaway(Record):
    """One kind of fact by itself: how well it tells the class, and what it is like in each.

    `auc` is macro one-vs-rest, cross-validated by group; `by_class` says in words what the class's pictures have.
    """

    name: str
    auc: Estimate
    by_class: dict[str, str] = {}


class Shortcuts(Record):
    """Whether the class can be told without anatomy. Each number is a cross-validated, patient-grouped macro AUC.

    `facts_auc` sees no pixel, `unnamed_auc` not the form of the name either, `made_auc` nor the size in bytes, which
    depends on what the picture shows. `border_auc` sees only the rim and corners, `colours_auc` only colour and
    brightness of the whole; `giveaways` are the facts one kind at a time, the best first. None where a check was left
    out, for the reason in `left_out`.
    """

    facts_auc: Estimate | None = None
    unnamed_auc: Estimate | None = None
    made_auc: Estimate | None = None
    border_auc: Estimate | None = None
    colours_auc: Estimate | None = None
    giveaways: tuple[Giveaway, ...] = ()
    n_folds: int = 0
    left_out: tuple[str, ...] = ()


class Neighbour(Record):
    """A picture of another patient that looks most alike, with its label."""

    sample: str
    label: str


class Suspect(Record):
    """A label that may be wrong. `probability` is that of `label`, `suggested` the class that the probe prefers.

    `is_strong` where cleanlab, the probe and the neighbours agree; the others are only ranked.
    """

    sample: str
    label: str
    suggested: str
    probability: float
    probability_suggested: float
    neighbours: tuple[Neighbour, ...] = ()
    is_strong: bool = False


class LabelCheck(Record):
    """The search for wrong labels: by whose features, how well the probe tells the classes, and its suspects."""

    by: str
    n: int
    auc: float | None = None
    suspects: tuple[Suspect, ...] = ()


class ClassNeed(Record):
    """How sure the AUC of a class against the rest can be (Hanley and McNeil 1982), counted in patients.

    `half_width` is half of the 95 % interval on the test split, `half_width_folds` with every patient tested once by
    `--folds`. `patients_to_halve`: patients of this class, were every class to grow alike, at which the former halves.
    """

    name: str
    n_patients: int
    n_test: int
    half_width: float | None
    half_width_folds: float | None
    patients_to_halve: int | None


class Needs(Record):
    """What splits, folds and intervals need of the data. `auc` is the value for which the widths hold."""

    auc: float
    is_assumed: bool = True
    max_folds: int
    classes: tuple[ClassNeed, ...]

    @model_validator(mode="after")
    def _check_auc(self) -> Needs:
        if not 0.5 <= self.auc <= 1:
            raise ValueError("auc lies between 0.5 and 1")
        return self
