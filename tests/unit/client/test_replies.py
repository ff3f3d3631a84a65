"""Answers and refusals of the server as values and errors, also of a server that is odd."""

from __future__ import annotations

import pytest

from desktopgrid.client.replies import error_of, field, result_of, rights_of, status_of
from desktopgrid.model import errors
from desktopgrid.model.errors import GridError, RemoteProtocolError, by_code
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Output, Usage
from desktopgrid.wire import messages as m

MODEL = {code: kind for code, kind in by_code().items() if kind.__module__ == errors.__name__}


@pytest.mark.parametrize("code, kind", MODEL.items())
def test_each_code_is_raised_as_its_error(code: str, kind: type[GridError]) -> None:
    error = error_of(m.Failure(1, code, "for this reason"))
    assert type(error) is kind
    assert str(error) == "for this reason"


def test_a_code_of_later_versions_is_an_error_all_the_same() -> None:
    assert type(error_of(m.Failure(1, "no-such-code", "why"))) is errors.GridError


def test_a_row_is_a_result_with_its_usage() -> None:
    row = {
        "work": "w",
        "task": "w.1",
        "status": "COMPLETED",
        "exit_code": 0,
        "reason": "",
        "stdout": "aGVsbG8=",
        "stderr": "",
        "outputs": [{"name": "o", "sha256": "0" * 64, "size": 3}],
        "usage": [1.5, 0.5, 0.25, 2048],
        "host": "h",
    }
    result = result_of(row)
    assert (result.task, result.stdout, result.host) == ("w.1", b"hello", "h")
    assert result.outputs == (Output("o", "0" * 64, 3),)
    assert result.usage == Usage(1.5, 0.5, 0.25, 2048)


def test_a_work_without_a_result_is_one_without_exit_code() -> None:
    nothing = {"work": "w", "task": None, "status": "WAITING", "exit_code": None, "host": None}
    result = result_of({**nothing, "stdout": "", "stderr": "", "outputs": [], "usage": None})
    assert (result.status, result.exit_code, result.host) == (WorkStatus.WAITING, None, None)


@pytest.mark.parametrize("body", [None, {}, {"work": "w"}, {"work": "w", "status": "ODD"}])
def test_what_is_no_result_is_the_servers_fault(body: object) -> None:
    with pytest.raises(RemoteProtocolError):
        result_of(body)


@pytest.mark.parametrize("written", [0o755, "0o755", "755"])
def test_rights_are_read_in_both_spellings(written: object) -> None:
    assert rights_of({"rights": written}) == 0o755


def test_what_a_reply_lacks_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="lacks rows"):
        field({"row": []}, "rows", list)
    with pytest.raises(RemoteProtocolError, match="rights"):
        rights_of({})
    with pytest.raises(RemoteProtocolError, match="'LATE'"):
        status_of("LATE")
