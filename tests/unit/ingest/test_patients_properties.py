"""Whatever names come: every sample has one patient, and the order of files changes nothing."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from properties import BOUNDED
from snellen.ingest.patients import RawSample, group_patients

STEMS = st.from_regex(r"(P\d{1,3}|\d{2,4}|CNV-\d{4})(_(left|right|OD|OS|\d)){0,2}", fullmatch=True) | st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=12
)
NAMES = st.lists(st.builds("{}/{}.png".format, st.sampled_from(["amd", "normal"]), STEMS), unique=True, max_size=40)


def make_raw(names: list[str]) -> list[RawSample]:
    return [RawSample(name, name, name.partition("/")[0]) for name in names]


@BOUNDED
@given(names=NAMES, wish=st.sampled_from(["auto", "none"]))
def test_group_patients_gives_every_sample_one_patient(names: list[str], wish: str) -> None:
    done, rule, _ = group_patients(make_raw(names), wish)
    assert [sample.name for sample in done] == names
    assert all(sample.patient for sample in done)
    assert rule.n == len({sample.patient for sample in done})


@BOUNDED
@given(names=NAMES, seed=st.integers(0, 99))
def test_group_patients_does_not_depend_on_the_order(names: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(names, len(names))
    first, rule, _ = group_patients(make_raw(names), "auto")
    second, again, _ = group_patients(make_raw(shuffled), "auto")
    assert {s.name: s.patient for s in first} == {s.name: s.patient for s in second}
    assert (rule.rule, rule.n, rule.origin) == (again.rule, again.n, again.origin)
