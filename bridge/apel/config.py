"""What the administrator says about accounting, in ``accounting.conf``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from desktopgrid.model import configuration
from desktopgrid.model.objects import HostKind

FILE = "accounting.conf"


class Form(StrEnum):
    """What is published."""

    SUMMARIES = "summaries"
    """Sums of a month: nobody's single job."""
    INDIVIDUAL = "individual"
    """A record for each task."""


class Identities(StrEnum):
    """Whether records tell who used what."""

    NONE = "none"
    SUBJECT = "subject"
    """By his name in certificates, and where a record has room for it his login here."""


class Benchmark(StrEnum):
    """By what the speed of the cores was measured."""

    HEPSPEC = "HEPSPEC"
    HEPSCORE = "HEPscore23"


class Infrastructure(StrEnum):
    """What the accounting portal counts the jobs as."""

    GRID = "grid"
    LOCAL = "local"


@dataclass(frozen=True)
class AccountingConfig:
    """``[accounting]``: as which site the use of this grid is published, and how much of it."""

    site_name: str
    submit_host: str
    benchmark_type: Benchmark
    benchmark_value: float

    form: Form = Form.SUMMARIES
    identities: Identities = Identities.NONE
    infrastructure: Infrastructure = Infrastructure.GRID
    kinds: tuple[HostKind, ...] = (HostKind.DESKTOP,)

    def __post_init__(self) -> None:
        for name in ("site_name", "submit_host"):
            text = getattr(self, name)
            if not text or not text.isprintable() or "%%" in text:
                raise ValueError(f"{name} must be a line of text without %%")
        if not (math.isfinite(self.benchmark_value) and self.benchmark_value > 0):
            raise ValueError("benchmark_value must be above 0: what one core was measured at")
        if not self.kinds:
            raise ValueError("kinds must name a kind of hosts whose use is published")


def read(path: Path) -> AccountingConfig:
    """What the file ``path`` says; raises ConfigurationError."""
    found = configuration.read(path).expect("accounting")
    return configuration.from_section(AccountingConfig, found.section("accounting"))
