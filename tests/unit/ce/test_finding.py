"""How long credentials are good for, in sentences."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest

from pilot.ce.finding import Verdict, end_of_token, life_of
from tests.builders import NOON, hours


@pytest.mark.parametrize(
    "left, verdict, said",
    [
        (hours(48), Verdict.FINE, "it is good until 2026-11-22 12:00 UTC"),
        (hours(2), Verdict.WORRYING, "it ends at 2026-11-20 14:00 UTC"),
        (timedelta(0), Verdict.WRONG, "it ended at 2026-11-20 12:00 UTC"),
    ],
)
def test_what_ends_soon_is_worrying(left: timedelta, verdict: Verdict, said: str) -> None:
    found = life_of("token", "it", NOON + left, NOON, "get a new one")
    assert (found.verdict, found.sentence) == (verdict, said)
    assert bool(found.advice) is (verdict is not Verdict.FINE)


def token(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", token([]), token({"exp": "soon"})])
def test_what_does_not_say_its_end_has_none_to_us(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    assert end_of_token(tmp_path / "token") is None
    assert end_of_token(tmp_path / "nothing") is None


def test_a_token_says_its_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token({"exp": NOON.timestamp()}) + "\n")
    assert end_of_token(tmp_path / "token") == NOON
