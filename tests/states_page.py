"""Draws docs/states.md from the tables of desktopgrid/model/lifecycle.py.

`python -m tests.states_page` writes the page; a test fails when the page that is checked in is
stale.
"""

from __future__ import annotations

import ast
import inspect
from enum import Enum
from pathlib import Path

from desktopgrid.model import lifecycle

PAGE = Path(__file__).resolve().parent.parent / "docs/states.md"

HEAD = """\
# Statuses and what moves them

Drawn from the tables in `desktopgrid/model/lifecycle.py` by `python -m tests.states_page`; do not
edit. A transition that is not drawn does not exist.
"""


def meanings(kind: type[Enum]) -> dict[str, str]:
    """What each member of ``kind`` means: the text under it in the source."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr):
            name = ast.unparse(before.targets[0])
            found[name] = " ".join(ast.literal_eval(after.value).split())
    return found


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, kind, table in (
        ("Works", lifecycle.WorkStatus, lifecycle.WORKS),
        ("Tasks", lifecycle.TaskStatus, lifecycle.TASKS),
        ("Pilots", lifecycle.PilotStatus, lifecycle.PILOTS),
        ("Delegations", lifecycle.DelegationStatus, lifecycle.DELEGATIONS),
    ):
        parts.append(f"\n## {title}\n\n```mermaid\nstateDiagram-v2\n")
        for status, events in table.items():
            for event, after in events.items():
                parts.append(f"    {status.value} --> {after.value}: {event.value}\n")
            if not events:
                parts.append(f"    {status.value} --> [*]\n")
        parts.append("```\n\n| status | means |\n|---|---|\n")
        for name, meaning in meanings(kind).items():
            parts.append(f"| `{kind[name].value}` | {meaning} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
