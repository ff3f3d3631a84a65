"""A pytest plugin that writes docs/features.md: every item of the feature list, and what shows it.

A test names its items with ``@pytest.mark.feature("XW-WRK-4")`` or in its own name, as in
``test_xw_ar_17_…``. tests/data/features.tsv says in a sentence what an item is; an item without one
fails the run. A third column there says what no test can: ``refused 0012`` with the number of the
decision record, or ``seam-only`` with what only another operating system could show. Load it with
``-p tests.feature_report``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = ROOT / "tests/data/features.tsv"
DECISIONS = ROOT / "docs/decisions"
REPORT = ROOT / "docs/features.md"

FEATURES = "features"
"""The property of a test's report that names what it pins."""
IN_A_NAME = re.compile(r"(?<![a-z0-9])(XW|COD|JM|QB)[-_](?:([A-Z]+)[-_])?(\d+)(?![a-z0-9])", re.I)

HEAD = """\
# What the tests show

Written by `make features` from a test run; do not edit. Each line is an item of the feature list.
*passed*: all its tests did. *refused*: we do not do it, and the decision says why. *seam-only*: our
side of it is tested, the rest only another operating system could show. *open*: not there yet.
*skipped*: some of its tests could not run where this was written.

"""
TABLE = """\
| item | what it is | status | shown by |
| --- | --- | --- | --- |
"""


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


def status(feature: Feature, outcomes: set[str]) -> str:
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


class FeatureReport:
    """Collects what each test pins and how it ended."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = defaultdict(set)
        self.outcomes: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # by a property, for tests may have run in another process
        for feature in dict(report.user_properties).get(FEATURES, ()):
            # a test that passed ran its call; one that did not may have ended before or after
            if report.when == "call" or not report.passed:
                self.outcomes[feature].add(report.outcome)
                self.tests[feature].add(report.nodeid.partition("[")[0])

    def text(self) -> str:
        """The whole page."""
        rows, count = [], Counter[str]()
        for feature in known().values():
            word = status(feature, self.outcomes[feature.name])
            count[word] += 1
            shown_by = [f"`{test}`" for test in sorted(self.tests[feature.name])]
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
        without = sorted(self.tests.keys() - known().keys())
        if without:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            print(f"\n{SENTENCES.relative_to(ROOT)} says nothing about {', '.join(without)}")
            return
        REPORT.write_text(self.text())


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # whose reports come to the process that started it
        config.pluginmanager.register(FeatureReport(), "feature report")
