"""An A-REX in this process, and jobs for it."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.ce.base import JobDescription
from pilot.ce.fake_arex import FakeArex
from tests.grid_site import Grid


@pytest.fixture
def arex(grid: Grid, tmp_path: Path) -> Iterator[FakeArex]:
    place = tmp_path / "arex"
    with FakeArex(place, grid.host(), grid.authorities, grid.people, ["good.token"]) as fake:
        yield fake


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., JobDescription]:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\ntest "$1" != run || exec sleep 100\nexit "$1"\n')

    def described(*arguments: str, **facts: object) -> JobDescription:
        given = arguments or ("run",)
        return JobDescription(uuid.uuid4().hex, program, given, **facts)  # type: ignore[arg-type]

    return described
