"""Questions that only the database can answer, for the threads that may wait for it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection

from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import FINAL_WORKS
from desktopgrid.model.objects import Result, Submitted
from desktopgrid.server.database import reading, usage
from desktopgrid.server.requests import Reading
from desktopgrid.server.submitting import names_of
from desktopgrid.wire import messages as m

MOST_BYTES = 512 << 10
"""Of results in one reply; what is left out is asked for again."""


def answer(connection: Connection, asked: Reading) -> dict[str, Any]:
    """The body of the reply to ``asked``; raises a GridError."""
    question = asked.question
    if isinstance(question, m.ListObjects):
        page = reading.list_objects(
            connection,
            question.kind,
            asked.who,
            uids=question.uids,
            where=question.where,
            limit=question.limit,
            after=question.after,
        )
        return {"rows": page.rows, "next": page.next}
    if isinstance(question, m.GetResults):
        return _results(connection, asked, question.works)
    if isinstance(question, m.Watch):
        ended = [
            _row(result)
            for result in reading.results(connection, question.works, asked.who)
            if result.status in FINAL_WORKS
        ]
        return {**asked.known, "ended": [{"work": r["work"], "status": r["status"]} for r in ended]}
    if isinstance(question, m.Report):
        since, until = map(date.fromisoformat, (question.since, question.until))
        return usage.report(connection, asked.who, since, until, question.by)
    if isinstance(question, m.UsageRecords):
        if question.open:
            return usage.records_of(connection, question.open)
        return usage.records(connection, question.after)
    return _why(connection, asked, question.uid)


def _results(connection: Connection, asked: Reading, works: tuple[str, ...]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    size = 0
    for result in reading.results(connection, works, asked.who):
        size += len(result.stdout) + len(result.stderr) + 200
        if rows and size > MOST_BYTES:
            return {"results": rows, "more": True}
        rows.append(_row(result))
    return {"results": rows, "more": False}


def _row(result: Result) -> dict[str, Any]:
    return {
        "work": result.work,
        "task": result.task,
        "status": result.status.value,
        "exit_code": result.exit_code,
        "reason": result.reason,
        "stdout": base64.b64encode(result.stdout).decode(),
        "stderr": base64.b64encode(result.stderr).decode(),
        "outputs": [{"name": o.name, "sha256": o.sha256, "size": o.size} for o in result.outputs],
        "usage": [
            result.usage.wall,
            result.usage.user,
            result.usage.system,
            result.usage.memory_kib,
        ],
        "host": result.host,
    }


def _why(connection: Connection, asked: Reading, uid: str) -> dict[str, Any]:
    found = list(reading.results(connection, (uid,), asked.who))
    if not found:
        return {"sentences": _why_ended_pilot(connection, asked, uid)}
    if len(found) > 1:
        counts: dict[str, int] = {}
        for result in found:
            counts[result.status.value] = counts.get(result.status.value, 0) + 1
        listed = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
        return {"sentences": [f"None of its {len(found)} works is open: {listed}."]}
    (result,) = found
    said = [f"It is {result.status.value}."]
    if result.reason:
        said.append(f"{result.reason}.")
    if result.exit_code is not None:
        said.append(f"Its program ended with exit code {result.exit_code} on host {result.host}.")
    return {"sentences": said}


def _why_ended_pilot(connection: Connection, asked: Reading, stamp: str) -> list[str]:
    page = reading.list_objects(connection, "pilots", asked.who, uids=(stamp,))
    for row in page.rows:
        said = [f"Pilot {stamp} at site {row['site']} is {row['status']} as {row['reference']}."]
        if row["reason"]:
            said.append(f"{row['reason']}.")
        return [*said, f"It did {row['tasks_done']} tasks."]
    raise UnknownObject.named("work or pilot", stamp)


def submissions_there(connection: Connection, uids: Sequence[str]) -> dict[str, str]:
    """The owner of each of these submissions that the database has."""
    return reading.owners_of_submissions(connection, uids)


def submitted(connection: Connection, asked: m.Submit) -> Submitted | None:
    """What the database has of a submission of this name, and of the works of these names."""
    return reading.submitted(connection, asked.uid, names_of(asked))
