"""A grid that is watched: by programs that others wrote, on what a real server says of itself."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.bystander import SQUARE
from tests.system.processes import ServerUnderTest, a_grid, until
from tests.unit.server.test_access_log import CLF, records


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path) as server:
        yield server


def works_done(server: ServerUnderTest, count: int = 3) -> Grid:
    """A client, so many of whose works a worker has run."""
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    server.worker("desk")
    sweep = grid.sweep(Description("square"), [[str(n)] for n in range(count)])
    assert len(list(grid.wait(sweep.works, 60))) == count
    return grid


def get(server: ServerUnderTest, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of an answer over HTTPS, from the machine that serves."""
    trust = ssl.create_default_context(cafile=str(server.home.ca_certificate))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    request = urllib.request.Request(server.address + path, method=method)  # noqa: S310
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# --- the access log -------------------------------------------------------------------------------


@pytest.mark.feature("XW-MON-2")
def test_each_request_has_a_line_that_webalizer_reads(server, tmp_path, webalizer):
    grid = works_done(server)
    with pytest.raises(UnknownObject):
        grid.why("no-such-work")
    assert get(server, "/v1/status?secret=1")[0] == 200
    assert get(server, "/nowhere/%22%0A%20x", "DELETE")[0] == 404
    grid.close()
    server.stop()

    log = (server.home.logs / "access.log").read_text()
    lines = [CLF.fullmatch(line) for line in log.splitlines(keepends=True)]
    assert all(lines), log
    found = Counter((line[3], line[5], line[6]) for line in lines if line)
    submit, why = ("POST /v1/link/submit HTTP/1.1", "POST /v1/link/why HTTP/1.1")
    assert found["admin", submit, "200"] == 1
    assert found["admin", why, "404"] == 1
    assert found["-", "GET /v1/status HTTP/1.1", "200"] == 1
    assert found["-", "DELETE /nowhere/%22%0A%20x HTTP/1.1", "404"] == 1
    assert found["admin", "GET /v1/link HTTP/1.1", "101"] == 1
    uploads = [key for key in found if re.match("PUT /v1/datas/", key[1])]
    assert [(user, status) for user, _, status in uploads] == [("admin", "201")]
    assert "secret" not in log

    assert records(webalizer, tmp_path, log.encode()) == (len(lines), 0)


def test_a_server_that_cannot_write_its_logs_serves(tmp_path):
    with a_grid(tmp_path) as server:
        server.stop()
        server.home.logs.write_text("in the way")
        server.start()
        grid = works_done(server)
        until(lambda: "they wait" in server.log, "it says so")
        grid.close()
        server.stop()


def test_no_access_log_is_written_where_none_is_wanted(tmp_path):
    with a_grid(tmp_path, watching__access_log="no") as server:
        assert get(server, "/v1/status")[0] == 200
        server.stop()
        assert not (server.home.logs / "access.log").exists()
