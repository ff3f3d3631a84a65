"""A pytest plugin that writes docs/features.md: every item of the feature list, and what shows it.

A test names its items with ``@pytest.mark.feature("XW-WRK-4")`` or in its own name, as in
``test_xw_ar_17_…``. tests/data/features.tsv says in a sentence what an item is; an item without one
fails the run. A third column there says what no test can: ``refused 0012`` with the number of the
decision record, or ``seam-only`` with what only another operating system could show. Load it with
``-p tests.feature_report``.

The page is all there is: a later run of some tests, with ``--amend-features``, takes from it how
the others ended.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = ROOT / "tests/data/features.tsv"
DECISIONS = ROOT / "docs/decisions"
REPORT = ROOT / "docs/features.md"

OUTCOMES = ("passed", "skipped", "failed")
"""How a test ends, the worst last."""
FEATURES = "features"
"""The property of a test's report that names what it pins."""
IN_A_NAME = re.compile(r"(?<![a-z0-9])(XW|COD|JM|QB)[-_](?:([A-Z]+)[-_])?(\d+)(?![a-z0-9])", re.I)

HEAD = """\
# What the tests show

Written by `make features` from a test run; do not edit. Each line is an item of the feature list.
*passed*: all its tests did. *refused*: we do not do it, and the decision says why. *seam-only*: our
side of it is tested, the rest only another operating system could show. *open*: not there yet.
*skipped*: some of its tests, so marked, could not run where this was written.

"""
TABLE = """\
| item | what it is | status | shown by |
| --- | --- | --- | --- |
"""


SHOWN = re.compile(r"`(tests/[^`]+)`(?: \*(skipped|failed)\*)?")
"""A test in a row of the page, and how it ended unless it passed."""


@dataclass(frozen=True)
class Feature:
    """An item of the feature list. ``refused_by`` is the decision record that says why we do not do
    it, ``seam`` what no machine of ours can show.
    """

    name: str
    sentence: str
    refused_by: str = ""
    seam: str = ""


def features_of(item: pytest.Item) -> set[str]:
    """The items of the feature list that test ``item`` pins."""
    marked = {name for marker in item.iter_markers("feature") for name in marker.args}
    in_name = IN_A_NAME.findall(item.name)
    return marked | {"-".join(filter(None, parts)).upper() for parts in in_name}


def parse(text: str) -> list[Feature]:
    """The features that the lines of ``text`` tell of; raises ValueError with the line's number."""
    features = []
    for number, line in enumerate(text.splitlines(), 1):
        name, sentence, *rest = line.split("\t")
        word, _, reason = rest[0].partition(" ") if rest else ("", "", "")
        if len(rest) > 1 or (word, bool(reason)) not in (
            ("", False),
            ("refused", True),
            ("seam-only", True),
        ):
            raise ValueError(f"{SENTENCES.name}:{number}: expected `refused NNNN` or `seam-only …`")
        features.append(
            Feature(
                name,
                sentence,
                refused_by=reason if word == "refused" else "",
                seam=reason if word == "seam-only" else "",
            )
        )
    return features


def known() -> dict[str, Feature]:
    """The feature list."""
    return {feature.name: feature for feature in parse(SENTENCES.read_text())}


def in_order(feature: str) -> tuple[str, int]:
    """Sorts XW-AR-2 before XW-AR-10."""
    family, _, number = feature.rpartition("-")
    return family, int(number)


def status(feature: Feature, outcomes: Collection[str]) -> str:
    """One word about ``feature``, whose tests ended with ``outcomes``."""
    if "failed" in outcomes:
        return "**failed**"
    if feature.refused_by:
        return "refused"
    if "skipped" in outcomes:
        return "skipped"
    if not outcomes:
        return "open"
    return "seam-only" if feature.seam else "passed"


def shown(page: str) -> dict[str, dict[str, str]]:
    """The tests of each feature on a page that was written before, and how they ended."""
    found: dict[str, dict[str, str]] = {}
    for line in page.splitlines():
        if line.startswith("| "):
            name = line.split(" | ")[0].removeprefix("| ")
            found[name] = {test: word or "passed" for test, word in SHOWN.findall(line)}
    return found


class FeatureReport:
    """Collects what each test pins and how it ended, ``before`` in other runs and in this one."""

    def __init__(self, before: Mapping[str, Mapping[str, str]]) -> None:
        self.before = before
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)

    def ended(self, feature: str, test: str, outcome: str) -> None:
        """One of the cases of ``test`` ended so; the worst case counts."""
        tests = self.outcomes[feature]
        tests[test] = max(outcome, tests.get(test, outcome), key=OUTCOMES.index)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # by a property, for tests may have run in another process
        for feature in dict(report.user_properties).get(FEATURES, ()):
            # a test that passed ran its call; one that did not may have ended before or after
            if report.when == "call" or not report.passed:
                self.ended(feature, report.nodeid.partition("[")[0], report.outcome)

    def text(self) -> str:
        """The whole page."""
        rows, count = [], Counter[str]()
        for feature in known().values():
            tests = {**self.before.get(feature.name, {}), **self.outcomes.get(feature.name, {})}
            word = status(feature, tests.values())
            count[word] += 1
            shown_by = [
                f"`{test}`" if outcome == "passed" else f"`{test}` *{outcome}*"
                for test, outcome in sorted(tests.items())
            ]
            if feature.refused_by:
                record = next(DECISIONS.glob(f"{feature.refused_by}-*.md")).name
                shown_by.insert(0, f"[decision {feature.refused_by}](decisions/{record})")
            if feature.seam:
                shown_by.insert(0, feature.seam)
            rows.append(
                f"| {feature.name} | {feature.sentence} | {word} | {'<br>'.join(shown_by)} |\n"
            )
        total = ", ".join(f"{number} {word}" for word, number in count.most_common())
        return f"{HEAD}{sum(count.values())} items: {total}.\n\n{TABLE}{''.join(rows)}"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            return
        without = sorted(self.outcomes.keys() - known().keys())
        if without:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            print(f"\n{SENTENCES.relative_to(ROOT)} says nothing about {', '.join(without)}")
            return
        REPORT.write_text(self.text())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--amend-features", action="store_true", help="put what these tests show on the page too"
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # whose reports come to the process that started it
        before = shown(REPORT.read_text()) if config.option.amend_features else {}
        config.pluginmanager.register(FeatureReport(before), "feature report")
