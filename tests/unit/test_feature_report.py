"""The list of features, and the page that says what shows each."""

import pytest

from tests.feature_report import (
    DECISIONS,
    SENTENCES,
    Feature,
    FeatureReport,
    in_order,
    parse,
    shown,
    status,
)

LISTED = parse(SENTENCES.read_text())


def test_the_list_is_sorted_and_has_each_item_once() -> None:
    names = [feature.name for feature in LISTED]
    assert names == sorted(set(names), key=in_order)


def test_each_item_has_a_sentence() -> None:
    assert [feature.name for feature in LISTED if not feature.sentence.endswith(".")] == []


def test_what_is_refused_has_its_decision_record() -> None:
    numbers = {feature.refused_by for feature in LISTED if feature.refused_by}
    assert [number for number in numbers if not list(DECISIONS.glob(f"{number}-*.md"))] == []


def test_each_decision_record_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in DECISIONS.glob("*.md")]
    assert len(numbers) == len(set(numbers))


PLAIN = Feature("XW-AR-1", "It is so.")
REFUSED = Feature("XW-AR-1", "It is so.", refused_by="0012")
SEAM = Feature("XW-AR-1", "It is so.", seam="macOS")


@pytest.mark.parametrize(
    ("feature", "outcomes", "word"),
    [
        (PLAIN, {"passed"}, "passed"),
        (PLAIN, set(), "open"),
        (PLAIN, {"passed", "skipped"}, "skipped"),
        (PLAIN, {"passed", "failed", "skipped"}, "**failed**"),
        (REFUSED, set(), "refused"),
        (REFUSED, {"failed"}, "**failed**"),
        (SEAM, {"passed"}, "seam-only"),
        (SEAM, set(), "open"),
    ],
)
def test_one_word_says_how_an_item_does(feature: Feature, outcomes: set[str], word: str) -> None:
    assert status(feature, outcomes) == word


@pytest.mark.parametrize("rest", ["refused", "later 0012", "refused 0012\tmore"])
def test_a_wrong_line_of_the_list_is_named(rest: str) -> None:
    with pytest.raises(ValueError, match=r"features\.tsv:2"):
        parse(f"XW-AR-1\tIt is so.\nXW-AR-2\tIt is not.\t{rest}\n")


def a_row(report: FeatureReport, name: str) -> list[str]:
    """The status of a feature on the page that ``report`` writes, and its tests."""
    (row,) = [line for line in report.text().splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.split("|")[3:5]]


def test_a_later_run_amends_what_an_earlier_one_said() -> None:
    """Root's run shows what the other one, of an ordinary account, has to leave out."""
    first = FeatureReport({})
    for test, outcome in (
        ("tests/a.py::test_for_all[1]", "passed"),
        ("tests/a.py::test_for_all[2]", "passed"),
        ("tests/a.py::test_for_root[1]", "skipped"),
        ("tests/a.py::test_for_root[2]", "skipped"),
    ):
        first.ended("XW-CFG-15", test.partition("[")[0], outcome)
    tests = "`tests/a.py::test_for_all`<br>`tests/a.py::test_for_root`"
    assert a_row(first, "XW-CFG-15") == ["skipped", f"{tests} *skipped*"]
    assert a_row(FeatureReport(shown(first.text())), "XW-CFG-15") == a_row(first, "XW-CFG-15")
    second = FeatureReport(shown(first.text()))
    second.ended("XW-CFG-15", "tests/a.py::test_for_root", "passed")
    assert a_row(second, "XW-CFG-15") == ["passed", tests]
    second.ended("XW-CFG-15", "tests/a.py::test_for_root", "failed")
    second.ended("XW-CFG-15", "tests/a.py::test_for_root", "passed")
    assert a_row(second, "XW-CFG-15") == ["**failed**", f"{tests} *failed*"]
