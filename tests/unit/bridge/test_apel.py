"""The use of the grid as APEL's messages: what they say, and that each record is published once,
whatever is killed when.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from dirq.QueueSimple import QueueSimple  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from bridge.apel import config as accounting
from bridge.apel.config import AccountingConfig, Benchmark, Form, Identities
from bridge.apel.messages import INDIVIDUAL, global_name, job_record, message, summaries
from bridge.apel.publishing import Published, months, publish, published_as
from bridge.apel.spool import OURS, STATE, opened
from desktopgrid.client.fake import FakeGrid
from desktopgrid.model.accounting import GROUPINGS, Cause, Entry
from desktopgrid.model.errors import BadRequest, ConfigurationError, Unavailable
from desktopgrid.model.objects import HostKind
from desktopgrid.model.rights import UserLevel
from tests.apel import Malformed, records_in
from tests.builders import NOON

SAMPLE = Path(__file__).parents[3] / "conf" / accounting.FILE
END = NOON.timestamp() - 3600


def a_config(**fields: Any) -> AccountingConfig:
    default = {"site_name": "LAL", "submit_host": "grid:1/x", "benchmark_value": 10.0}
    return AccountingConfig(
        **{**default, "benchmark_type": Benchmark.HEPSPEC, "form": Form.INDIVIDUAL, **fields}
    )


def a_record(epoch: int = 1, **fields: Any) -> dict[str, Any]:
    """What the server tells of an hour on two cores of a desktop."""
    return {
        **{"epoch": epoch, "task": f"w-{epoch}.1", "cause": "", "wall": 3600.4, "cpu": 5000.0},
        **{"memory_kib": 2048, "started_at": END - 3601, "ended_at": END, "host": "desk1"},
        **{"user": "ann", "group": "", "vo": "", "site": "", "route": "", "application": "app"},
        **{"kind": "desktop", "cores": 2, "subject": "CN=Ann,OU=a\\, b,DC=lal,DC=org"},
        **fields,
    }


# --- what is configured ---------------------------------------------------------------------------


def test_the_sample_is_read_and_publishes_as_little_as_possible() -> None:
    found = accounting.read(SAMPLE)
    assert found == AccountingConfig(
        "EXAMPLE-DESKTOPGRID",
        "grid.example.org:4325/desktopgrid",
        Benchmark.HEPSCORE,
        11.6,
        Form.SUMMARIES,
        Identities.NONE,
        kinds=(HostKind.DESKTOP,),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("site_nam = x", "unknown key 'site_nam', perhaps site_name"),
        ("benchmark_type = VUPS", "must be one of HEPSPEC, HEPscore23, not 'VUPS'"),
        ("benchmark_value = nan", "benchmark_value must be above 0"),
        ("benchmark_value = -1", "benchmark_value must be above 0"),
        ("site_name = a%%b", "site_name must be a line of text without %%"),
        ("kinds =", "kinds must name a kind of hosts"),
        ("kinds = laptop", "must be one of desktop, htcondor"),
        ("identities = all", "must be one of none, subject"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    key = line.partition(" ")[0]
    right = {"site_name": "a", "submit_host": "b", "benchmark_type": "HEPSPEC"}
    lines = {**{k: f"{k} = {v}" for k, v in {**right, "benchmark_value": "1"}.items()}, key: line}
    path = tmp_path / accounting.FILE
    path.write_text("\n".join(["[accounting]", *lines.values()]))
    with pytest.raises(ConfigurationError) as caught:
        accounting.read(path)
    assert said in str(caught.value)
    assert f"{path}:" in str(caught.value)


# --- what a message says --------------------------------------------------------------------------


def told(record: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What the accounting server reads of a record."""
    text = message(INDIVIDUAL, [job_record(record, a_config(**fields))])
    header, (found,) = records_in(text, NOON)
    assert header == "APEL-individual-job-message: v0.3"
    return found


def test_a_task_is_a_job_record() -> None:
    assert told(a_record(vo="atlas"), identities=Identities.SUBJECT) == {
        **{"Site": "LAL", "SubmitHost": "grid:1/x", "LocalJobId": "w-1.1", "LocalUserId": "ann"},
        **{"GlobalUserName": "/DC=org/DC=lal/OU=a, b/CN=Ann", "MachineName": "desk1"},
        **{"FQAN": "/atlas/Role=NULL/Capability=NULL", "Processors": 2, "NodeCount": 1},
        **{"WallDuration": 3600, "CpuDuration": 5000, "MemoryReal": 2048},
        **{"StartTime": int(END - 3601), "EndTime": int(END), "InfrastructureType": "grid"},
        **{"InfrastructureDescription": "Glidebridge-Glidebridge-desktop"},
        **{"ServiceLevelType": "HEPSPEC", "ServiceLevel": 10.0},
    }


def test_nobody_is_named_unless_the_administrator_says_so() -> None:
    found = told(a_record())
    assert not {"GlobalUserName", "LocalUserId", "MachineName"}.intersection(found)


@pytest.mark.parametrize("started_at", [None, END + 1e6])
def test_a_clock_that_was_set_makes_no_record_that_is_refused(started_at: float | None) -> None:
    found = told(a_record(started_at=started_at))
    assert (found["StartTime"], found["EndTime"]) == (int(END) - 3600, int(END))


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("", ""),
        ("CN=Ann", "/CN=Ann"),
        ("CN=Ann,DC=org", "/DC=org/CN=Ann"),
        ("CN=a\\,b\\\\,O=x", "/O=x/CN=a,b\\"),
        ("/DC=org/CN=Ann", "/DC=org/CN=Ann"),
    ],
)
def test_names_in_certificates_are_written_as_the_portal_has_them(subject: str, name: str) -> None:
    assert global_name(subject) == name


@given(*[st.text(min_size=1)] * 4)
def test_no_name_makes_a_record_of_its_own(user: str, host: str, subject: str, vo: str) -> None:
    record = a_record(user=user, host=host, subject=subject, vo=vo)
    found = told(record, identities=Identities.SUBJECT)
    assert (found["Site"], found["EndTime"]) == ("LAL", int(END))


def a_row(**fields: Any) -> dict[str, Any]:
    """What the server sums up of one month, kind of host, VO and number of cores."""
    return {
        **{"month": "2026-10", "kind": "desktop", "vo": "", "cores": 2, "works": 7},
        **{"core_hours": 4.0, "cpu_hours": 3.0, **fields},
    }


def test_a_month_is_a_summary_normalised_by_hepspec() -> None:
    config = a_config(kinds=(HostKind.DESKTOP, HostKind.LOCAL))
    rows = [a_row(), a_row(kind="local", works=1), a_row(kind="arc"), a_row(vo="atlas", works=0)]
    text = message("APEL-summary-job-message: v0.3", summaries(rows, config))
    _, (found,) = records_in(text, NOON)
    assert found == {
        **{"Site": "LAL", "Month": 10, "Year": 2026, "SubmitHost": "grid:1/x"},
        **{"Infrastructure": "grid", "Processors": 2, "NodeCount": 1, "NumberOfJobs": 8},
        **{"WallDuration": 4 * 3600, "CpuDuration": 6 * 3600},
        **{"NormalisedWallDuration": 144_000, "NormalisedCpuDuration": 216_000},
    }


def test_by_hepscore_a_summary_has_the_newer_form() -> None:
    config = a_config(benchmark_type=Benchmark.HEPSCORE, benchmark_value=11.6)
    rows = [a_row(vo="atlas", subject="CN=Ann,DC=org")]
    _, (found,) = records_in(message("APEL-summary-job-message: v0.4", summaries(rows, config)))
    assert found["ServiceLevel"] == "{HEPscore23: 11.6}"
    assert (found["VO"], found["VOGroup"]) == ("atlas", "/atlas")
    assert found["GlobalUserName"] == "/DC=org/CN=Ann"


def test_the_judge_refuses_what_the_accounting_server_does() -> None:
    right = message(INDIVIDUAL, [job_record(a_record(), a_config())])
    for wrong, by in (
        ("WallDuration: 3600", "WallDuration: -3"),
        ("Site: LAL", "Sight: LAL"),
        ("LocalJobId: w-1.1\n", ""),
        (f"EndTime: {int(END)}", "EndTime: 9999999999"),
        ("%%\n", ""),
        ("v0.3", "v0.1"),
    ):
        assert wrong in right
        with pytest.raises(Malformed):
            records_in(right.replace(wrong, by), NOON)


# --- publishing -----------------------------------------------------------------------------------


class Publisher:
    """A grid in memory, and a directory into which its use is published."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = tmp_path / "outgoing"
        self.fake = FakeGrid(tmp_path / "grid", UserLevel.SUPER)
        self.now = NOON
        self.config = a_config()

    def publish(self, since: date | None = None, until: date | None = None) -> Published:
        with (
            self.fake.open() as grid,
            opened(self.directory, published_as(self.config), lambda: self.now) as spool,
        ):
            return publish(grid, self.config, spool, since, until, lambda: self.now)

    def sent(self) -> list[dict[str, Any]]:
        """The records that a sender finds, which takes their messages away."""
        return [record for _, records in self.messages() for record in records]

    def messages(self) -> list[tuple[str, list[dict[str, Any]]]]:
        queue, found = QueueSimple(str(self.directory)), []
        for name in queue:
            assert queue.lock(name)
            found.append(records_in(queue.get(name).decode(), self.now))
            queue.remove(name)
        queue.purge()
        return found


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def jobs(records: list[dict[str, Any]]) -> list[str]:
    return [record["LocalJobId"] for record in records]


def test_each_task_is_published_once(publisher: Publisher) -> None:
    publisher.fake.records = [a_record(n) for n in range(1, 6)]
    assert publisher.publish() == Published(5, 3, 0, 0)
    publisher.fake.records += [a_record(6)]
    assert publisher.publish() == Published(1, 1, 0, 0)
    assert publisher.publish() == Published()
    assert jobs(publisher.sent()) == [f"w-{n}.1" for n in range(1, 7)]


def test_a_task_that_goes_on_is_published_when_it_is_over(publisher: Publisher) -> None:
    publisher.fake.records = [a_record(1, ended_at=None), a_record(2), a_record(3)]
    assert publisher.publish().open == 1
    assert publisher.publish() == Published(open=1)
    publisher.fake.records[0] = a_record(1)
    assert publisher.publish() == Published(1, 1, 0, 0)
    assert jobs(publisher.sent()) == ["w-2.1", "w-3.1", "w-1.1"]


def test_what_is_no_use_of_this_site_is_left_out(publisher: Publisher) -> None:
    publisher.fake.records = [
        a_record(1, cause="lost"),
        a_record(2, kind="htcondor", site="lal"),
        a_record(3),
    ]
    done = publisher.publish()
    assert (done.records, done.left_out) == (1, 2)
    assert jobs(publisher.sent()) == ["w-3.1"]


def test_a_record_of_the_future_waits_until_it_can_be_sent(publisher: Publisher) -> None:
    publisher.fake.records = [a_record(1, ended_at=NOON.timestamp() + 90_000), a_record(2)]
    assert publisher.publish() == Published(1, 1, 0, 1)
    publisher.now += timedelta(days=2)
    assert publisher.publish() == Published(1, 1, 0, 0)
    assert sorted(jobs(publisher.sent())) == ["w-1.1", "w-2.1"]


def test_whatever_is_killed_when_each_record_is_there_once(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that changes the disk is once the last one of a process."""
    step, total, deaths = 0, 0, 0
    while True:
        publisher.fake.records += [a_record(total + n) for n in (1, 2, 3)]
        total += 3
        with monkeypatch.context() as patched:
            calls = DyingCalls(step)
            for name in ("fsync", "open", "rename", "replace"):
                patched.setattr(os, name, calls.wrapped(getattr(os, name)))
            for name in ("rename", "replace", "unlink", "mkdir"):
                patched.setattr(Path, name, calls.wrapped(getattr(Path, name)))
            try:
                publisher.publish()
                is_over = not calls.died
            except Killed:
                is_over, deaths = False, deaths + 1
        if is_over:
            break
        step += 1
    assert deaths > 15
    publisher.publish()
    found = jobs(publisher.sent())
    assert sorted(found) == sorted(f"w-{n}.1" for n in range(1, total + 1))
    left = {path.name for path in (publisher.directory / OURS).iterdir()}
    assert left == {STATE, "lock"}


class Killed(BaseException):
    """The process is dead, and catches nothing any more."""


class DyingCalls:
    """The ``last``-th call of a process is its last, and is not carried out."""

    def __init__(self, last: int) -> None:
        self._left, self.died = last, False

    def wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if not self._left:
                self.died = True
                raise Killed
            self._left -= 1
            return real(*arguments, **keywords)

        return call


def test_two_at_a_time_do_not_publish(publisher: Publisher) -> None:
    publisher.publish()
    with (publisher.directory / OURS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process writes into"):
            publisher.publish()


def test_the_same_use_is_not_published_in_two_forms(publisher: Publisher) -> None:
    publisher.publish()
    publisher.fake.records = [a_record()]
    publisher.publish()
    publisher.config = a_config(form=Form.SUMMARIES)
    with pytest.raises(BadRequest, match="would count the same use twice"):
        publisher.publish()


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"published_as": 1, "x": 2}'])
def test_a_damaged_state_is_not_taken_for_a_new_one(publisher: Publisher, damage: str) -> None:
    publisher.fake.records = [a_record()]
    publisher.publish()
    (publisher.directory / OURS / STATE).write_text(damage)
    with pytest.raises(BadRequest, match="put it back from a backup"):
        publisher.publish()


def test_what_others_may_not_read_is_the_groups_alone(publisher: Publisher) -> None:
    publisher.fake.records = [a_record()]
    publisher.publish()
    (path,) = publisher.directory.glob("????????/*")
    assert path.stat().st_mode & 0o137 == 0


# --- summaries ------------------------------------------------------------------------------------


def used(month: str = "2026-11", **fields: Any) -> Entry:
    labels = {name: "" for name in GROUPINGS} | {"month": month, "kind": "desktop", "cores": 1}
    labels.update((name, fields.pop(name)) for name in list(fields) if name in labels)
    return Entry(
        labels, Cause.NONE, **{"tasks": 3, "core_time": 3600.0, "cpu_time": 60.0, **fields}
    )


@pytest.fixture
def summing(publisher: Publisher) -> Iterator[Publisher]:
    publisher.config = a_config(form=Form.SUMMARIES)
    publisher.fake.used = [used()]
    yield publisher


def test_a_month_is_published_again_only_when_its_sums_have_changed(summing: Publisher) -> None:
    day = date(2026, 11, 3)
    assert summing.publish(day, day) == Published(1, 1, 0, 0)
    assert summing.publish(day, day) == Published(0, 0, 1, 0)
    summing.fake.used.append(used())
    assert summing.publish(day, day) == Published(1, 1, 0, 0)
    assert [record["NumberOfJobs"] for record in summing.sent()] == [3, 6]


def test_without_days_this_month_and_the_last_one_are_published(summing: Publisher) -> None:
    summing.publish()
    asked = [r for r in summing.fake.requests if r.verb == "report"]
    assert [(r.since, r.until) for r in asked] == [  # type: ignore[attr-defined]
        ("2026-10-01", "2026-10-31"),
        ("2026-11-01", "2026-11-30"),
    ]


def test_a_month_of_the_future_is_not_published(summing: Publisher) -> None:
    assert summing.publish(date(2027, 1, 1), date(2027, 3, 1)) == Published()


def test_nothing_used_is_nothing_published(summing: Publisher) -> None:
    summing.fake.used = []
    assert summing.publish() == Published()
    assert summing.sent() == []


def test_months_go_over_the_turn_of_the_year() -> None:
    assert list(months(date(2025, 12, 31), date(2026, 2, 1))) == [
        (date(2025, 12, 1), date(2025, 12, 31)),
        (date(2026, 1, 1), date(2026, 1, 31)),
        (date(2026, 2, 1), date(2026, 2, 28)),
    ]
