"""`xw doctor` on a real server, and on each thing that may be in the way to it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from desktopgrid.client import doctor
from desktopgrid.client.cli import xw
from desktopgrid.client.doctor import GOOD, WARNING, WRONG, Finding, judged_skew, judged_version
from desktopgrid.link.address import ServerName
from desktopgrid.link.identity import Identity
from desktopgrid.model.version import VERSION
from desktopgrid.server import pki
from tests.relay import Relay
from tests.system.processes import ServerUnderTest, a_grid

ALL = ["versions", "disk", "disk", "identity", "proxy", "name", "connection", "certificate"]
ALL += ["clock", "server", "login"]
Examine = Callable[..., list[Finding]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def examine(server: ServerUnderTest, tmp_path: Path) -> Examine:
    """Examine an identity of ours with some of it changed."""

    def examine(path: Path | None = None, /, **options: object) -> list[Finding]:
        if path is None:
            names = ("servers", "kind", "identity", "secret", "ca")
            changes = {name: options.pop(name) for name in names if name in options}
            path = tmp_path / "identity.json"
            replace(server.identity(), **changes).write(path)  # type: ignore[arg-type]
        return list(doctor.examine(path, {}, **{"patience": 5.0, **options}))  # type: ignore[arg-type]

    return examine


def last(findings: list[Finding]) -> Finding:
    assert [each.state for each in findings[:-1]].count(WRONG) == 0
    return findings[-1]


def test_where_all_is_well_every_step_says_so(examine: Examine, server: ServerUnderTest) -> None:
    found = examine()
    assert sorted(each.check for each in found) == sorted(ALL)
    assert {each.state for each in found} == {GOOD}, found
    assert not [each for each in found if each.advice]
    assert f"serves, glidebridge {VERSION}" in found[-2].found
    assert found[-1].found == "the server knows this user, of level super"


def test_the_command_prints_it_and_its_exit_code_tells(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    server.identity().write(good)
    replace(server.identity(), servers=(f"https://127.0.0.1:{a_closed_port()}",)).write(bad)
    done = CliRunner().invoke(xw, ["doctor", "--identity", str(good)])
    assert (done.exit_code, "All is well." in done.stderr) == (0, True)
    assert done.stdout.splitlines()[0].startswith("good     versions")
    done = CliRunner().invoke(xw, ["doctor", "--identity", str(bad)])
    assert done.exit_code == 1
    assert "wrong    connection" in done.stdout
    assert "-> nobody listens there: does the server run" in done.stdout
    done = CliRunner().invoke(xw, ["doctor", "--identity", str(bad), "--format", "json"])
    rows = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (rows[-1]["check"], rows[-1]["state"]) == ("connection", WRONG)


def a_closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        return int(closing.getsockname()[1])


def test_without_an_identity_it_says_how_to_get_one(examine: Examine, tmp_path: Path) -> None:
    found = last(examine(tmp_path / "none.json"))
    assert found.check == "identity"
    assert found.advice.startswith("xw login --server https://HOST:PORT --ca FILE LOGIN")


@pytest.mark.parametrize(
    ("content", "mode", "said", "advice"),
    [
        ("{}", 0o644, "others can read this secret", "chmod 600"),
        ('{"servers": [', 0o600, "not JSON", "`xw login` makes a new one"),
        ("dispatcher.severs : a\n", 0o600, "unknown key 'dispatcher.severs'", "conf/xwrc"),
        ("dispatcher.servers : a\n", 0o600, "path.certfile is missing", "conf/xwrc"),
    ],
)
def test_what_is_wrong_with_an_identity_is_told_with_its_cure(
    examine: Examine, tmp_path: Path, content: str, mode: int, said: str, advice: str
) -> None:
    path = tmp_path / "identity"
    path.write_text(content)
    path.chmod(mode)
    found = last(examine(path))
    assert (found.check, said in found.found, advice in found.advice) == ("identity", True, True)


def test_a_name_that_nobody_knows(examine: Examine) -> None:
    found = last(examine(servers=("https://no-such-host.invalid:4325",)))
    assert (found.check, found.state) == ("name", WRONG)
    assert "no-such-host.invalid has no address" in found.found


def test_the_next_server_is_tried_all_the_same(examine: Examine, server: ServerUnderTest) -> None:
    found = examine(servers=(f"https://127.0.0.1:{a_closed_port()}", server.address))
    assert [each.check for each in found if each.state == WRONG] == ["connection"]
    assert (found[-1].check, found[-1].state) == ("login", GOOD)


def test_a_server_that_is_silent_or_no_server(examine: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = last(
            examine(servers=(f"https://127.0.0.1:{silent.getsockname()[1]}",), patience=0.2)
        )
    assert (found.check, found.state) == ("certificate", WRONG)
    assert "does not speak TLS" in found.found


def test_another_grids_server(examine: Examine) -> None:
    other = pki.ca_certificate(pki.new_key(), "another grid", datetime.now(UTC)).decode()
    found = last(examine(ca=other))
    assert (found.check, found.state) == ("certificate", WRONG)
    assert "get ca.pem of the grid from its administrator" in found.advice


def test_a_server_under_a_name_that_is_not_its_own(
    examine: Examine, server: ServerUnderTest
) -> None:
    found = last(examine(servers=(f"https://127.0.0.2:{server.port}",)))
    if found.check == "certificate":  # it listens at 127.0.0.1 only; where not, nobody answers
        assert "names in server.conf" in found.advice
    else:
        assert found.check == "connection"


def test_a_certificate_that_ends_soon_and_a_clock_that_is_wrong(examine: Examine) -> None:
    found = examine(clock=lambda: time.time() + 715 * 86_400)
    states = {each.check: each.state for each in found}
    assert (states["certificate"], states["clock"], states["login"]) == (WARNING, WARNING, GOOD)


@pytest.mark.parametrize(
    ("seconds", "state", "said"),
    [
        (0.4, GOOD, "agree on the time"),
        (-30, GOOD, "agree on the time"),
        (90, WARNING, "90 s ahead of the server"),
        (-7200, WARNING, "7200 s behind the server"),
    ],
)
def test_a_clock_may_differ_by_half_a_minute(seconds: float, state: str, said: str) -> None:
    found = judged_skew(seconds)
    assert (found.state, said in found.found, bool(found.advice)) == (state, True, state != GOOD)


@pytest.mark.parametrize(
    ("version", "state"), [(VERSION, GOOD), ("0.1.7", GOOD), ("0.9.0", WARNING), ("?", WARNING)]
)
def test_versions_of_one_series_understand_each_other(version: str, state: str) -> None:
    assert judged_version(ServerName("grid", 1), version).state == state


def test_a_login_that_is_good_for_nothing_any_more(
    examine: Examine, server: ServerUnderTest
) -> None:
    with server.client() as grid:
        gone = grid.new_identity("client")
        grid.revoke(gone.identity)
    found = last(examine(identity=gone.identity, secret=gone.secret))
    assert (found.check, found.state) == ("login", WRONG)
    assert "`xw login` again" in found.advice


def test_a_workers_identity_is_none_for_xw(examine: Examine, server: ServerUnderTest) -> None:
    found = last(examine(server.home.worker_identity))
    assert (found.check, found.state) == ("login", WRONG)
    assert "`xwworker --identity` takes it" in found.advice


def test_a_proxy_that_the_environment_names(server: ServerUnderTest, tmp_path: Path) -> None:
    """Names are the proxy's to resolve, and what it refuses is told."""
    path = tmp_path / "identity.json"
    replace(server.identity(), servers=("https://grid.example.org:4325",)).write(path)
    with Relay(server.port, is_proxy=True, status="403 Forbidden") as relay:
        environment = {"HTTPS_PROXY": f"http://127.0.0.1:{relay.port}"}
        found = list(doctor.examine(path, environment, patience=5.0))
    assert "name" not in [each.check for each in found]
    assert (found[-1].check, "403" in found[-1].found) == ("connection", True)
    assert "NO_PROXY" in found[-1].advice
    found = list(doctor.examine(path, {"HTTPS_PROXY": "socks5://a"}, patience=5.0))
    assert (found[-1].check, found[-1].state) == ("proxy", WRONG)
    environment = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": ".example.org"}
    found = list(doctor.examine(path, environment, patience=5.0))
    (proxy,) = (each for each in found if each.check == "proxy")
    assert proxy.found.endswith("not for this server")


def test_a_password_in_a_file_is_tried(server: ServerUnderTest, tmp_path: Path) -> None:
    path = tmp_path / "xwrc"
    path.write_text(
        f"dispatcher.servers : 127.0.0.1:{server.port}\nlogin : admin\npassword : wrong\n"
        f"path.certfile : {server.home.ca_certificate}\n"
    )
    os.chmod(path, 0o600)
    found = list(doctor.examine(path, {}, patience=5.0))
    assert next(each for each in found if each.check == "identity").found.endswith("as admin")
    assert (found[-1].check, found[-1].state) == ("login", WRONG)
    assert "does not know 'admin' by the password in" in found[-1].found


def test_a_disk_with_little_room(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, server: ServerUnderTest
) -> None:
    monkeypatch.setattr(doctor, "ROOM_MIB", 1 << 40)
    assert {each.state for each in examine() if each.check == "disk"} == {WARNING}


def test_the_identity_is_not_changed(server: ServerUnderTest, tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    server.identity().write(path)
    before = path.read_bytes()
    list(doctor.examine(path, {}, patience=5.0))
    assert path.read_bytes() == before
    assert Identity.read(path)
