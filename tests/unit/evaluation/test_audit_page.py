"""The audit's page: complete, safe whatever the names are, bounded whatever the cohort's size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser

from pictures import make_cohort, make_sample
from snellen.evaluation import audit_page
from snellen.evaluation.audit_page import AuditPage, choose_pictures, render_audit
from snellen.evaluation.audit_tables import build_formats, build_sizes
from snellen.planning.needs import compute_needs
from snellen.planning.splits import draw_splits
from snellen.records.audit import Giveaway, LabelCheck, Neighbour, Shortcuts, Suspect
from snellen.records.cohort import Cohort, Issue, Sample, SetAside
from snellen.records.evaluation import Estimate

HOSTILE = '<script>alert("1")</script>\' & \u202egpj.exe\nnext.png'
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


class _Text(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_data(self, data: str) -> None:
        self.text += data


def make_samples(n: int = 20, labels: Sequence[str] = ("amd", "normal")) -> list[Sample]:
    return [make_sample(f"{label}/{number}.png", label, n_bytes=900) for label in labels for number in range(n)]


def with_audit(cohort: Cohort, **changes: object) -> Cohort:
    return cohort.model_copy(update={"audit": cohort.audit.model_copy(update=changes)})


def render(cohort: Cohort, **facts: object) -> str:
    splits = draw_splits(cohort, (0.7, 0.15, 0.15), 0)
    given = {"data": "data/", "command": "snellen audit data/", "next_command": "snellen train data/", **facts}
    return render_audit(AuditPage(cohort=cohort, splits=splits, **given))  # type: ignore[arg-type]  # strings by name


def test_audit_page_without_issues_says_that_training_is_possible() -> None:
    page = _Text(render(make_cohort(make_samples())))
    assert "Training is possible: every class has patients" in page.text
    assert "No issue was found." in page.text
    assert "Set aside, with the reason" not in page.text


def test_audit_page_counts_formats_and_sizes_by_class() -> None:
    samples = make_samples()
    mixed = [sample.model_copy(update={"format": "JPEG" if sample.label == "amd" else "PNG"}) for sample in samples]
    rows = build_formats(mixed).rows
    assert {row[0]: row[-1] for row in rows} == {"JPEG": "amd 20", "PNG": "normal 20"}
    assert build_sizes(mixed).rows[0][-1] == "amd 20, normal 20"


def test_audit_page_tells_in_words_what_a_class_lacks() -> None:
    cohort = make_cohort([*make_samples(), make_sample("rare/1.png", "rare")])
    text = _Text(render(cohort)).text
    assert "Training is not possible yet: rare cannot fill" in text
    assert "✗ no patient for validation, test" in text


def test_audit_page_shows_what_was_set_aside_with_its_reason() -> None:
    gone = SetAside(name="amd/bad.png", code="unreadable_picture", reason="the file is empty (0 bytes)")
    text = _Text(render(with_audit(make_cohort(make_samples()), set_aside=(gone,), n_samples=41, n_set_aside=1))).text
    assert "amd/bad.png" in text
    assert "the file is empty (0 bytes)" in text
    assert "of 41 listed" in text


def test_audit_page_shows_identical_pictures_with_labels_and_fate() -> None:
    same = {"pixels_sha256": "same"}
    copies = [
        make_sample("train/a.png", "amd", split="train", **same),
        make_sample("test/b.png", "normal", split="test", **same),
    ]
    own = [sample.model_copy(update={"split": "train"}) for sample in make_samples()]
    cohort = with_audit(make_cohort([*own, *copies]), duplicate_groups=(("test/b.png", "train/a.png"),))
    html = render(cohort, thumbnails={"test/b.png": DOT})
    text = _Text(html).text
    assert "labels contradict: normal (1), amd (1)" in text
    assert "in several splits: training, test" in text
    assert "left out: its patient or a copy of it is in test too" in text
    assert html.count(DOT) == 2  # in its group and in its class


def test_audit_page_lists_issues_by_severity_with_advice_and_names() -> None:
    issues = tuple(
        Issue(code=f"code_{level}", severity=level, message=f"message {level}", advice="do it", samples=("a.png",))  # type: ignore[arg-type]  # the three
        for level in ("info", "severe", "warning")
    )
    text = _Text(render(with_audit(make_cohort(make_samples()), issues=issues))).text
    part = text[text.index("Severe: correct these first") :]
    assert [part.index(f"message {level}") for level in ("severe", "warning", "info")] == sorted(
        part.index(f"message {level}") for level in ("severe", "warning", "info")
    )
    assert part.count("do it") == 3


def test_audit_page_is_safe_from_hostile_names() -> None:
    samples = [make_sample(f"{HOSTILE}{number}", HOSTILE) for number in range(4)]
    cohort = make_cohort([*samples, *make_samples()], root=f"/data/{HOSTILE}")
    issue = Issue(code="x", severity="severe", message=HOSTILE, advice=HOSTILE, samples=(HOSTILE,))
    gone = SetAside(name=HOSTILE, code="x", reason=HOSTILE)
    rule = cohort.patients.model_copy(update={"rule": HOSTILE, "examples": (HOSTILE,)})
    group = tuple(sample.name for sample in samples)
    cohort = with_audit(cohort, issues=(issue,), set_aside=(gone,), patients=rule, duplicate_groups=(group,))
    html = render(cohort, data=HOSTILE, command=HOSTILE)
    page = _Text(html)
    assert "script" not in page.tags
    assert "\u202e" not in html
    assert "\\u202egpj.exe\\nnext.png" in page.text


def test_audit_page_asks_nothing_of_anybody() -> None:
    html = render(make_cohort(make_samples()), thumbnails={"amd/1.png": DOT})
    assert all(link.startswith(("#", "data:")) for link in _Text(html).links)
    assert not re.search(r"https?://|url\((?!#)|@import", html)


def test_audit_page_names_every_sample_of_an_issue() -> None:
    names = tuple(f"folder/{number}.png" for number in range(300))
    issue = Issue(code="x", severity="info", message="m", advice="a", samples=names)
    text = _Text(render(with_audit(make_cohort(make_samples()), issues=(issue,)))).text
    assert all(name in text for name in names)


def test_audit_page_of_ten_thousand_defects_is_bounded_and_says_so() -> None:
    samples = [
        make_sample(f"a{k % 2}/{k // 2}-{k % 2}.png", f"a{k % 2}", pixels_sha256=str(k // 2)) for k in range(10000)
    ]
    names = tuple(sample.name for sample in samples)
    groups = tuple((names[k], names[k + 1]) for k in range(0, 10000, 2))
    gone = tuple(SetAside(name=name, code="x", reason="r") for name in names)
    issues = tuple(Issue(code=f"x{k}", severity="warning", message="m", advice="a", samples=names) for k in range(10))
    cohort = with_audit(make_cohort(samples), issues=issues, set_aside=gone, duplicate_groups=groups)
    chosen = choose_pictures(cohort)
    thumbnail = "data:image/jpeg;base64," + "A" * 8000
    html = render(cohort, thumbnails={sample.name: thumbnail for sample in chosen})
    assert len(chosen) <= audit_page.N_GROUP_PICTURES + audit_page.N_CLASS_PICTURES
    assert len(html) < 5_000_000
    assert "and 8000 more in audit.json" in html
    assert "Pictures are shown of 30 of 5000 groups" in html
    assert "audit.json holds all 10000" in html


def test_audit_page_of_many_classes_says_how_many_more() -> None:
    cohort = make_cohort([make_sample(f"{k}/a.png", str(k)) for k in range(150)])
    assert "50 more classes are in audit.json" in _Text(render(cohort)).text


def test_choose_pictures_shows_identical_ones_of_a_class_once() -> None:
    samples = [make_sample(f"{k}.png", "x", pixels_sha256="same") for k in range(5)]
    assert len(choose_pictures(make_cohort(samples))) == 1


def test_audit_page_does_not_depend_on_the_order_of_samples() -> None:
    samples = make_samples()
    first = choose_pictures(make_cohort(samples))
    assert choose_pictures(make_cohort(samples[::-1])) == first


def test_audit_page_shows_shortcuts_beside_the_model_and_how_much_they_reach() -> None:
    rim, facts = (Estimate(value=value, low=value - 0.05, high=value + 0.05) for value in (0.8, 0.62))
    kinds = (Giveaway(name="width and height", auc=facts, by_class={"amd": "512 × 512 100 %", HOSTILE: "x"}),)
    found = Shortcuts(facts_auc=facts, unnamed_auc=facts, border_auc=rim, giveaways=kinds, n_folds=5)
    html = render(with_audit(make_cohort(make_samples()), shortcuts=found), model=("test", Estimate(value=0.9)))
    page = _Text(html)
    assert "rim and corners alone reach 0.800: 75\u00a0% of what the model has above guessing" in page.text
    assert page.tags.count("svg") == 4  # facts, one kind, rim, the model
    assert 'class="rim above"' in html
    assert "script" not in page.tags
    assert "512 × 512 100 %" in page.text


def test_audit_page_shows_suspects_with_their_neighbours() -> None:
    near = (Neighbour(sample="normal/1.png", label="normal"),)
    suspects = tuple(
        Suspect(sample=f"amd/{at}.png", label="amd", suggested="normal", probability=0.01, probability_suggested=0.97,
                neighbours=near, is_strong=at == 0)
        for at in range(3)
    )  # fmt: skip
    labels = LabelCheck(by="a network", n=40, auc=0.9, suspects=suspects)
    cohort = with_audit(make_cohort(make_samples()), labels=labels)
    chosen = {sample.name for sample in choose_pictures(cohort)}
    assert {"amd/0.png", "normal/1.png"} <= chosen
    text = " ".join(_Text(render(cohort, thumbnails={"amd/0.png": DOT})).text.split())
    assert "1 is likely wrong" in text
    assert "likely normal, 97 %" in text
    assert text.count("perhaps normal") == 2


def test_audit_page_shows_few_suspects_where_none_is_sure() -> None:
    suspects = tuple(
        Suspect(sample=f"amd/{at}.png", label="amd", suggested="normal", probability=0.2, probability_suggested=0.6)
        for at in range(20)
    )
    cohort = with_audit(
        make_cohort(make_samples()), labels=LabelCheck(by="a network", n=40, auc=0.7, suspects=suspects)
    )
    text = " ".join(_Text(render(cohort)).text.split())
    assert text.count("perhaps normal") == 8
    assert "and 12 more in audit.json" in text


def test_audit_page_lists_no_size_after_size_of_one_picture_each() -> None:
    samples = [sample.model_copy(update={"width_px": 100 + at}) for at, sample in enumerate(make_samples())]
    rows = build_sizes(samples).rows
    assert len(rows) == 4
    assert rows[-1][:2] == ("37 other sizes", "37")


def test_audit_page_writes_large_counts_with_separators() -> None:
    gone = with_audit(make_cohort(make_samples()), n_samples=5232, n_read=5231, classes={"amd": 3883, "normal": 1348})
    text = " ".join(_Text(render(gone)).text.split())
    assert "5,231 of 5,232 listed" in text
    assert "3,883 pictures" in text


def test_audit_page_says_in_words_how_sure_a_number_can_be() -> None:
    cohort = make_cohort(make_samples(40))
    needs = compute_needs(cohort, draw_splits(cohort, (0.7, 0.15, 0.15), 0))
    text = _Text(render(with_audit(cohort, needs=needs))).text
    assert "an AUC of 0.85 would be known to lie between" in text
    assert "Patients at which the former halves" in text
    assert "for an AUC of 0.85, assumed" in text


def test_audit_page_shows_commands_as_code_and_breaks_no_option() -> None:
    advice = "`snellen train DATA --set data.copies=all` keeps them, or --patients REGEX. `<b>`"
    html = render(with_audit(make_cohort(make_samples()), issues=(
        Issue(code="x", severity="warning", message="`audit`", advice=advice),)))  # fmt: skip
    text = _Text(html).text
    assert "`" not in text
    assert '<code class="nowrap">audit</code>' in html
    assert "<code>snellen train DATA --set data.copies=all</code>" in html
    assert '<span class="nowrap">--patients</span> REGEX' in html
    assert '<code class="nowrap">&lt;b&gt;</code>' in html


def test_audit_page_calls_a_numeric_class_a_class_and_tells_the_order_of_grades() -> None:
    cohort = make_cohort(make_samples(labels=("0", "1", "2")))
    text = _Text(render(cohort, order_hint="not known: set data.ordered=true")).text
    assert "class 0: 20, class 1: 20, class 2: 20" in text
    assert "not known: set data.ordered=true" in text
    assert "grades, the lowest first" in _Text(render(cohort.model_copy(update={"is_ordered": True}))).text


def test_audit_page_says_why_patients_who_share_a_picture_count_once() -> None:
    samples = make_samples(40)
    cohort = with_audit(make_cohort(samples), duplicate_groups=((samples[0].name, samples[1].name),))
    needs = compute_needs(cohort, draw_splits(cohort, (0.7, 0.15, 0.15), 0))
    assert "80 patients above are 79 in this table" in _Text(render(with_audit(cohort, needs=needs))).text
    assert "in this table" not in _Text(render(with_audit(make_cohort(samples), needs=needs))).text
