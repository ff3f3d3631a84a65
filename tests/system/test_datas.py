"""Datas on the server and on the web, from `xw` to the worker that runs with them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desktopgrid.client.files import measure
from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import AccessDenied, GridError, LimitExceeded, UnknownObject
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire import messages as m
from tests.system.processes import ServerUnderTest, a_grid, environment, until
from tests.web_server import WebServer

CAT = b'#!/bin/sh\necho "$@"; cat; cat in.txt 2>/dev/null; true\n'
FETCHES = """
[worker]
fetch_private = yes
[fetchers]
site = cp-of-a-site
"""
Xw = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """A grid whose only worker may ask its own network."""
    place = tmp_path_factory.mktemp("datas")
    command = place / "fetch"
    command.write_text('#!/bin/sh\ncp "${1#site://here}" "$2"\n')
    command.chmod(0o755)
    with a_grid(place, datas__schemes="site") as server:
        server.worker("public", settings=FETCHES.replace("cp-of-a-site", str(command)))
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    grid = server.client()
    grid.send_application("cat", CAT, ANY_PLATFORM)
    until(lambda: list(grid.objects("hosts")), "the worker is there")
    return grid


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as web:
        yield web


@pytest.fixture
def xw(server: ServerUnderTest, tmp_path: Path) -> Xw:
    identity = tmp_path / "identity"
    server.identity().write(identity)

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "desktopgrid.client.cli", *map(str, words)],
            cwd=tmp_path,
            env={**environment(), "GLIDEBRIDGE_IDENTITY": str(identity)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.mark.feature("XW-ARC-6", "XW-AP-1", "XW-AP-2", "XW-DM-1")
def test_a_work_runs_with_what_is_on_the_web_and_what_is_on_the_server(
    grid: Grid, web: WebServer, xw: Xw
) -> None:
    web.page("/bin/wcat", CAT)
    web.page("/in", b"from the web\n")
    xw("sendapp", "wcat", f"{web.url}/bin/wcat")
    (row,) = (
        row for row in json.loads(xw("apps", "--format", "json").stdout) if row["name"] == "wcat"
    )
    assert row["platforms"] == "any/any"
    here = grid.send_data(b"from the server\n", "here")
    done = xw(
        *("submit", "wcat", "--wait", "--stdin", f"{web.url}/in"),
        *("--input", f"in.txt=xw://127.0.0.1/{here.uid}", "--", "hello"),
    )
    assert done.stdout == "hello\nfrom the web\nfrom the server\n"
    listed = {row["name"]: row["uri"] for row in json.loads(xw("datas", "--format", "json").stdout)}
    assert listed["in"] == f"{web.url}/in"


@pytest.mark.feature("XW-ARC-6")
def test_a_site_may_have_a_scheme_of_its_own(grid: Grid, xw: Xw, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the site\n")
    uri = f"site://here{tmp_path}/in"
    assert "--sha256" not in xw("senddata", uri, code=1).stderr
    sha256, size = measure(tmp_path / "in")
    uid = xw("senddata", uri, "--sha256", sha256, "--size", str(size)).stdout.strip()
    assert xw("submit", "cat", "--wait", "--stdin", uid).stdout.endswith("from the site\n")


@pytest.mark.feature("XW-ARC-6")
@pytest.mark.parametrize(
    "uri, said",
    [("gopher://w/x", "it knows xw://, http://"), ("adics://w/x", "its network is gone")],
)
def test_a_scheme_that_means_nothing_is_said_at_once(xw: Xw, uri: str, said: str) -> None:
    for words in (("submit", "cat", "--stdin", uri), ("senddata", uri), ("sendapp", "x", uri)):
        assert said in xw(*words, code=1).stderr
    known = ("--sha256", "0" * 64, "--size", "1")
    assert said in xw("senddata", uri, *known, code=1).stderr


@pytest.mark.feature("XW-PIL-11")
def test_what_changed_on_the_web_is_the_works_error(grid: Grid, web: WebServer) -> None:
    data = grid.send_uri(web.page("/in", b"as it was\n"))
    web.page("/in", b"otherwise\n")
    result = grid.run(Description("cat", stdin=data.uid), timeout=60)
    assert result.status is WorkStatus.ERROR
    assert f"{web.url}/in is not what was announced" in result.reason
    [row] = grid.objects("works", (result.work,))
    assert row["attempts"] == 1


@pytest.mark.feature("XW-ARC-6")
def test_an_address_of_the_hosts_own_network_is_not_asked(
    server: ServerUnderTest, grid: Grid, web: WebServer, tmp_path: Path
) -> None:
    user = grid.send_user("ann", password="correct horse")
    grid.new_identity("worker", user=user).write(tmp_path / "anns")
    server.worker("careful", identity=tmp_path / "anns")
    ann = server.client(grid.new_identity("client", user=user))
    data = ann.send_uri(web.page("/in", b"inside\n"))
    ann.send_application("own", CAT, ANY_PLATFORM, rights=0o700)
    asked = len(web.asked)
    result = ann.run(Description("own", stdin=data.uid, retries=0), timeout=60)
    assert result.status is WorkStatus.ERROR
    assert "only this host's own network can reach" in result.reason
    assert len(web.asked) == asked


@pytest.mark.feature("XW-AR-17")
def test_a_data_that_was_closed_after_the_submission_is_the_works_error(grid: Grid) -> None:
    """The manual's own behaviour (3.3); whoever submits it now is refused at once."""
    data = grid.send_data(new_uid().encode(), "open until now")
    late = new_uid().encode()
    asked = m.SendData(new_uid(), "late", *measure(late))
    grid.session.ask(asked)
    description = Description("cat", stdin=asked.uid, inputs=(("in.txt", data.uid),))
    [work] = grid.submit(description).works
    grid.chmod(data.uid, "private")
    with pytest.raises(AccessDenied, match="its worker could not read it"):
        grid.submit(description)
    grid.session.transfers.put(f"/v1/datas/{asked.uid}", late, asked.sha256, asked.size)
    [result] = grid.wait([work], timeout=60)
    assert result.status is WorkStatus.ERROR
    assert f"data {data.uid} is private by now" in result.reason


@pytest.mark.feature("XW-DM-3")
def test_a_data_comes_back_as_it_was_sent(
    grid: Grid, web: WebServer, xw: Xw, tmp_path: Path
) -> None:
    content = new_uid().encode() * 1000
    here = grid.send_data(content, "here.bin")
    there = grid.send_uri(web.page("/there.bin", content))
    xw("getdata", f"xw://127.0.0.1/{here.uid}", there.uid, "-d", "got")
    for name in ("here.bin", "there.bin"):
        assert (tmp_path / "got" / name).read_bytes() == content
    assert "--override" in xw("getdata", here.uid, "-d", "got", code=1).stderr
    xw("getdata", here.uid, "-d", "got", "--override")
    xw("rm", here.uid)
    assert "no data" in xw("getdata", here.uid, code=1).stderr
    evil = grid.send_data(content, "../evil")
    assert "would not lie in" in xw("getdata", evil.uid, "-d", "got", code=1).stderr
    assert not (tmp_path / "evil").exists()


@pytest.mark.feature("XW-DM-3")
def test_a_damaged_upload_is_refused_and_nothing_of_it_is_kept(
    server: ServerUnderTest, grid: Grid
) -> None:
    content = new_uid().encode() * 1000
    asked = m.SendData(new_uid(), "damaged", *measure(content))
    grid.session.ask(asked)
    path = f"/v1/datas/{asked.uid}"
    with pytest.raises(GridError, match="SHA-256"):
        grid.session.transfers.put(path, content[:-1] + b"!", asked.sha256, asked.size)
    with pytest.raises(UnknownObject):
        grid.session.transfers.read(path, 1 << 20)
    assert not list((server.home.datas / "partial").glob(f"*{asked.uid}*"))
    grid.session.transfers.put(path, content, asked.sha256, asked.size)
    assert grid.session.transfers.read(path, 1 << 20) == content


@pytest.mark.feature("XW-DM-3")
def test_a_data_that_was_removed_serves_the_works_that_need_it(grid: Grid) -> None:
    data = grid.send_data(new_uid().encode(), "removed")
    late = new_uid().encode()
    asked = m.SendData(new_uid(), "late", *measure(late))
    grid.session.ask(asked)
    needs = Description("cat", stdin=asked.uid, inputs=(("in.txt", data.uid),))
    [work] = grid.submit(needs).works
    grid.remove([data.uid])
    with pytest.raises(UnknownObject):
        grid.submit(needs)
    grid.session.transfers.put(f"/v1/datas/{asked.uid}", late, asked.sha256, asked.size)
    [result] = grid.wait([work], timeout=60)
    assert result.status is WorkStatus.COMPLETED


def test_of_two_uploads_that_fit_alone_one_is_refused(server: ServerUnderTest, grid: Grid) -> None:
    user = grid.send_user("bob", password="correct horse")
    grid.change_user("bob", quota_mib=1)
    bob = server.client(grid.new_identity("client", user=user))
    contents = [new_uid().encode() * 20_000 for _ in range(2)]
    asked = [m.SendData(new_uid(), "some", *measure(content)) for content in contents]
    for each in asked:
        assert not bob.session.ask(each)["available"]

    def put(each: m.SendData, content: bytes) -> None:
        bob.session.transfers.put(f"/v1/datas/{each.uid}", content, each.sha256, each.size)

    put(asked[0], contents[0])
    with pytest.raises(LimitExceeded, match="xw rm"):
        put(asked[1], contents[1])
    bob.remove([asked[0].uid])
    put(asked[1], contents[1])
    server.kill()
    server.start()
    assert bob.stats()["your_data_mib"] == 1
    assert bob.stats()["your_quota_mib"] == 1


def test_what_has_come_of_an_upload_counts_also_after_a_restart(
    server: ServerUnderTest, grid: Grid
) -> None:
    user = grid.send_user("dan", password="correct horse")
    grid.change_user("dan", quota_mib=1)
    dan = server.client(grid.new_identity("client", user=user))
    contents = [new_uid().encode() * 20_000 for _ in range(2)]
    asked = [m.SendData(new_uid(), "some", *measure(content)) for content in contents]
    for each in asked:
        dan.session.ask(each)
    first, size = f"/v1/datas/{asked[0].uid}", asked[0].size
    headers = {"Content-Range": f"bytes 0-99/{size}", "Content-Length": "100"}
    transfers = dan.session.transfers
    with transfers._answer("PUT", first, headers, lambda to: to.send(contents[0][:100])) as answer:  # type: ignore[attr-defined]
        assert answer.status == 202

    def second_is_refused() -> None:
        with pytest.raises(LimitExceeded, match="xw rm"):
            transfers.put(f"/v1/datas/{asked[1].uid}", contents[1], asked[1].sha256, asked[1].size)

    assert dan.stats()["your_data_mib"] == 1
    second_is_refused()
    server.kill()
    server.start()
    until(lambda: dan.stats()["your_data_mib"] == 1, "it counts again")
    second_is_refused()
    transfers.put(first, contents[0], asked[0].sha256, size)
    assert dan.stats()["your_data_mib"] == 1
    dan.remove([asked[0].uid])
    transfers.put(f"/v1/datas/{asked[1].uid}", contents[1], asked[1].sha256, asked[1].size)
