"""Large contents in a real S3 store: what moves there, what is refused, and what happens when the
store is away.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from desktopgrid.client.files import measure
from desktopgrid.client.grid import Grid
from desktopgrid.link import persistence
from desktopgrid.model.errors import BadRequest, ConfigurationError, GridError, Unavailable
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.server.config import StoreSection
from desktopgrid.server.objectstore import ObjectStore
from desktopgrid.wire import messages as m
from tests.s3 import BUCKET, S3, SECRET, an_s3
from tests.system.processes import ServerUnderTest, a_grid, run, until

MIB = 1 << 20
PROGRAM = b"#!/bin/sh\ncat > left; wc -c < left; exit 0\n" + b"#" * MIB
COLLECT = "from desktopgrid.server.cli import main; main()"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with an_s3(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture(scope="module")
def server(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid"), **s3.settings) as server:
        server.worker("public")
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    grid = server.client()
    grid.send_application("count", PROGRAM, ANY_PLATFORM)
    return grid


def a_content(size: int = 2 * MIB) -> bytes:
    return (new_uid().encode() * (size // 32 + 1))[:size]


def here(server: ServerUnderTest) -> set[str]:
    """The contents that the grid's own server has."""
    return {path.name for path in server.home.datas.glob("??/*")}


@pytest.mark.feature("XW-ARC-6", "XW-PIL-11")
def test_a_large_program_input_and_output_go_past_the_server(
    server: ServerUnderTest, grid: Grid, s3: S3, tmp_path: Path
) -> None:
    content = a_content()
    data = grid.send_data(content, "large")
    small = grid.send_data(b"small", "small")
    result = grid.run(Description("count", stdin=data.uid), timeout=60)
    assert (result.status, result.stdout) == (WorkStatus.COMPLETED, b"2097152\n")
    [output] = result.outputs
    grid.fetch(result, tmp_path / "out")
    assert (tmp_path / "out" / "left").read_bytes() == content
    assert grid.content(result, "left") == content
    digests = {name.partition("-")[0] for name in s3.objects}
    assert {data.sha256, output.sha256, hashlib.sha256(PROGRAM).hexdigest()} <= digests
    assert here(server) & digests == set()
    assert small.sha256 in here(server)
    for log in (server.log, (server.directory / "public.log").read_text()):
        assert "X-Amz-Signature" not in log
        assert SECRET not in log


def test_a_fetch_goes_on_where_it_broke_off(grid: Grid, tmp_path: Path) -> None:
    content = a_content()
    data = grid.send_data(content, "large")
    (tmp_path / "data.part").write_bytes(content[:MIB])
    moved: list[int] = []
    path = f"/v1/datas/{data.uid}"
    grid.session.transfers.get(path, tmp_path / "data", data.sha256, data.size, moved.append)
    assert (tmp_path / "data").read_bytes() == content
    assert moved[0] > MIB


def test_what_is_there_is_not_sent_again(grid: Grid, s3: S3) -> None:
    content = a_content()
    first = grid.send_data(content, "first")
    before = {path.name: path.stat().st_mtime_ns for path in s3.bucket.iterdir()}
    second = grid.send_data(content, "second")
    assert second.sha256 == first.sha256
    assert {path.name: path.stat().st_mtime_ns for path in s3.bucket.iterdir()} == before
    assert grid.run(Description("count", stdin=second.uid), timeout=60).stdout == b"2097152\n"


# What is refused.


def announced(grid: Grid, content: bytes) -> m.SendData:
    asked = m.SendData(new_uid(), "large", *measure(content))
    grid.session.ask(asked)
    return asked


def place_of(grid: Grid, asked: m.SendData) -> dict[str, object]:
    path = f"/v1/datas/{asked.uid}/direct"
    said: dict[str, object] = grid.session.transfers._say("POST", path, {})  # type: ignore[attr-defined]
    return said


def put(url: object, headers: object, content: bytes) -> int:
    """The status of a PUT as anybody may send it."""
    parts = urlsplit(str(url))
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("PUT", f"{parts.path}?{parts.query}", content, dict(headers))  # type: ignore[call-overload]
    with connection.getresponse() as response:
        response.read()
    connection.close()
    return response.status


def settle(grid: Grid, asked: m.SendData) -> None:
    grid.session.transfers._say("PUT", f"/v1/datas/{asked.uid}/direct", {})  # type: ignore[attr-defined]


def is_available(grid: Grid, asked: m.SendData) -> bool:
    [row] = grid.objects("datas", (asked.uid,))
    return bool(row["is_available"])


def test_a_url_is_good_for_what_it_was_signed_for_only(grid: Grid) -> None:
    content = a_content()
    asked = announced(grid, content)
    place = place_of(grid, asked)
    url, headers = str(place["url"]), place["headers"]
    longer = {**dict(headers), "Content-Length": str(len(content) + 1)}  # type: ignore[call-overload]
    assert put(url, longer, content + b"!") == 403
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert put(url, {**dict(headers), "x-amz-checksum-sha256": other}, content) == 403  # type: ignore[call-overload]
    assert put(url.replace(asked.sha256, "0" * 64), headers, content) == 403
    assert put(url[:-1] + ("0" if url[-1] != "0" else "1"), headers, content) == 403
    assert put(url.partition("?")[0], headers, content) in (400, 403)
    with pytest.raises(BadRequest, match="nothing came to the S3 store"):
        settle(grid, asked)
    assert not is_available(grid, asked)
    assert put(url, headers, content) == 200
    settle(grid, asked)
    assert is_available(grid, asked)


def test_what_came_short_is_not_made_available(grid: Grid, s3: S3) -> None:
    content = a_content()
    asked = announced(grid, content)
    place = place_of(grid, asked)
    assert put(place["url"], place["headers"], content) == 200
    [path] = s3.bucket.glob(f"{asked.sha256}-*")
    path.write_bytes(content[:-1])
    with pytest.raises(BadRequest, match=f"{len(content) - 1} bytes came to the S3 store"):
        settle(grid, asked)
    assert not is_available(grid, asked)
    assert put(place["url"], place["headers"], content) == 200
    settle(grid, asked)
    assert is_available(grid, asked)


@pytest.fixture
def eve(server: ServerUnderTest, grid: Grid) -> Grid:
    name = f"eve-{new_uid()[-8:]}"
    return server.client(grid.new_identity("client", user=grid.send_user(name)))


def claim(eve: Grid, s3: S3, content: bytes) -> m.SendData:
    """A data with the digest of ``content``, for which eve puts something else into the store."""
    asked = announced(eve, content)
    owner = next(row["uid"] for row in eve.objects("users"))
    (s3.bucket / f"{asked.sha256}-{owner}").write_bytes(b"!" * len(content))
    return asked


def test_who_knows_a_digest_is_not_given_the_content_for_it(
    grid: Grid, s3: S3, eve: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = a_content()
    monkeypatch.setattr(grid.session.transfers, "_direct_from", lambda: 0)
    mine = grid.send_data(content, "mine", rights=0o700)
    assert list(s3.bucket.glob(f"{mine.sha256}-*")) == [], "it is on the server itself"
    asked = claim(eve, s3, content)
    settle(eve, asked)
    path = f"/v1/datas/{asked.uid}"
    with pytest.raises(GridError):
        eve.session.transfers.get(path, tmp_path / "got", asked.sha256, asked.size)
    assert not (tmp_path / "got").exists()
    # Nor does another size that she says make the server forget what she has put there.
    shorter = m.SendData(new_uid(), "shorter", asked.sha256, asked.size - 1)
    eve.session.ask(shorter)
    with pytest.raises(BadRequest):
        settle(eve, shorter)
    with pytest.raises(GridError):
        eve.session.transfers.get(path, tmp_path / "got", asked.sha256, asked.size)


def test_small_contents_do_not_go_past_the_server(grid: Grid, s3: S3, eve: Grid) -> None:
    content = new_uid().encode()
    grid.send_data(content, "mine", rights=0o700)
    asked = claim(eve, s3, content)
    for door in (place_of, settle):
        with pytest.raises(BadRequest):
            door(eve, asked)
    assert not is_available(eve, asked)


@pytest.mark.feature("XW-PIL-11")
def test_what_was_changed_in_the_store_is_noticed_by_who_fetches_it(grid: Grid, s3: S3) -> None:
    content = a_content()
    data = grid.send_data(content, "large")
    [path] = s3.bucket.glob(f"{data.sha256}-*")
    path.write_bytes(bytes(len(content)))
    result = grid.run(Description("count", stdin=data.uid, retries=0), timeout=60)
    assert result.status is WorkStatus.ERROR
    assert "has not the digest" in result.reason


def test_others_cannot_be_given_a_place_of_ones_own(
    server: ServerUnderTest, grid: Grid, s3: S3
) -> None:
    asked = announced(grid, a_content())
    user = grid.send_user("eve", password="correct horse")
    eve = server.client(grid.new_identity("client", user=user))
    with pytest.raises(GridError):
        place_of(eve, asked)
    # Whoever sends the same content has an object of his own: nobody writes over another's.
    content = a_content()
    grid.send_data(content, "mine")
    eve.send_data(content, "mine too")
    assert len(list(s3.bucket.glob(f"{hashlib.sha256(content).hexdigest()}-*"))) == 2


# When it is away.


def test_a_store_that_is_away_is_said_and_waited_for(
    grid: Grid, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "PAUSE", 0.001)
    content = a_content()
    s3.stop()
    with pytest.raises(Unavailable, match=s3.url) as raised:
        grid.send_data(content, "large")
    assert "X-Amz" not in str(raised.value)
    s3.start()
    data = grid.send_data(content, "large")
    assert grid.run(Description("count", stdin=data.uid), timeout=60).stdout == b"2097152\n"


def test_what_nothing_refers_to_goes_from_the_store(
    server: ServerUnderTest, grid: Grid, s3: S3
) -> None:
    kept, gone = grid.send_data(a_content(), "kept"), grid.send_data(a_content(), "gone")
    grid.remove([gone.uid])
    for path in s3.bucket.iterdir():
        os.utime(path, (1000, 1000))
    done = run(COLLECT, "--directory", server.place, "collect")
    assert done.returncode == 0, done.stderr
    assert gone.sha256 in done.stdout
    digests = {name.partition("-")[0] for name in s3.objects}
    assert kept.sha256 in digests
    assert gone.sha256 not in digests
    assert grid.run(Description("count", stdin=kept.uid), timeout=60).stdout == b"2097152\n"
    until(lambda: grid.stats(), "it serves on")


# Who may sign.


def store(s3: S3, credentials: Path) -> ObjectStore:
    return ObjectStore(StoreSection(s3.url, BUCKET, credentials=credentials))


@pytest.mark.parametrize(
    "text, mode, said",
    [
        ("[default]\n", 0o600, "must have aws_access_key_id and aws_secret_access_key"),
        ("no file of that kind", 0o600, "is no credentials file"),
        ("[default]\naws_access_key_id = a\naws_secret_access_key = b\n", 0o644, "chmod 600"),
    ],
)
def test_a_credentials_file_that_is_wrong_is_said_so(
    s3: S3, tmp_path: Path, text: str, mode: int, said: str
) -> None:
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=said) as raised:
        store(s3, path)
    assert str(path) in str(raised.value)


def test_a_wrong_secret_is_refused_by_the_store(s3: S3, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(s3.credentials.read_text().replace(SECRET, "another secret"))
    path.chmod(0o600)
    wrong = store(s3, path)
    with pytest.raises(Unavailable, match="the S3 store http://"):
        wrong.size("0" * 64, "somebody")
    url, headers = wrong.place("0" * 64, "somebody", 1)
    assert put(url, headers, b"x") == 403
