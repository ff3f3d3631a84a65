"""A pytest plugin that writes docs/features.md: each item of the feature list that a test pins.

A test names its items with ``@pytest.mark.feature("XW-WRK-4")`` or in its own name, as in
``test_xw_ar_17_…``. tests/data/features.tsv says in a sentence what an item is; an item without one
fails the run. Load it with ``-p tests.feature_report``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = ROOT / "tests/data/features.tsv"
REPORT = ROOT / "docs/features.md"

IN_A_NAME = re.compile(r"(?<![a-z0-9])(XW|COD|JM|QB)[-_](?:([A-Z]+)[-_])?(\d+)(?![a-z0-9])", re.I)

HEAD = """\
# What the tests show

Written by `make features` from a test run; do not edit. Each line is an item of the feature list
that tests pin. *shown*: all its tests passed; *skipped*: some could not run where this was written.

| item | what it is | status | tests |
| --- | --- | --- | --- |
"""


def features_of(item: pytest.Item) -> set[str]:
    """The items of the feature list that test ``item`` pins."""
    marked = {name for marker in item.iter_markers("feature") for name in marker.args}
    in_name = IN_A_NAME.findall(item.name)
    return marked | {"-".join(filter(None, parts)).upper() for parts in in_name}


def sentences() -> dict[str, str]:
    """What each item is, in a sentence."""
    lines = SENTENCES.read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines if line)


def in_order(feature: str) -> tuple[str, int]:
    """Sorts XW-AR-2 before XW-AR-10."""
    family, _, number = feature.rpartition("-")
    return family, int(number)


class FeatureReport:
    """Collects what each test pins and how it ended."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = defaultdict(set)
        self.outcomes: dict[str, set[str]] = defaultdict(set)
        self.features: dict[str, set[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.features = {item.nodeid: features_of(item) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for feature in self.features.get(report.nodeid, ()):
            # a test that passed ran its call; one that did not may have ended before or after
            if report.when == "call" or not report.passed:
                self.outcomes[feature].add(report.outcome)
                self.tests[feature].add(report.nodeid.partition("[")[0])

    def status(self, feature: str) -> str:
        """One word about all tests of ``feature``."""
        outcomes = self.outcomes[feature]
        if "failed" in outcomes:
            return "**failed**"
        return "skipped" if "skipped" in outcomes else "shown"

    def rows(self) -> list[str]:
        """The lines of the table."""
        known = sentences()
        return [
            f"| {feature} | {known[feature]} | {self.status(feature)} "
            f"| {'<br>'.join(f'`{test}`' for test in sorted(self.tests[feature]))} |"
            for feature in sorted(self.tests, key=in_order)
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            return
        without = sorted(self.tests.keys() - sentences().keys())
        if without:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            print(f"\n{SENTENCES.relative_to(ROOT)} says nothing about {', '.join(without)}")
            return
        REPORT.write_text(HEAD + "\n".join(self.rows()) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FeatureReport(), "feature report")
