"""The XWHEP manual's worker file: where it is looked for, and what each key means."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.link.manual import CLIENTS, WORKERS
from desktopgrid.model.errors import ConfigurationError
from pilot.node import config
from pilot.node.config import LogLevel, NodeConfig

SAMPLE = Path(__file__).parents[3] / "conf" / "xtremweb.worker.conf"
KEY = re.compile(r"^#([\w.]+) :(.*)$", re.M)


def read(tmp_path: Path, text: str, mode: int = 0o600) -> NodeConfig:
    path = tmp_path / "xtremweb.worker.conf"
    path.write_text(text)
    path.chmod(mode)
    return config.read(path)


def note(tmp_path: Path, text: str) -> str:
    (found,) = read(tmp_path, text).notes
    return found.removeprefix(f"{tmp_path}/xtremweb.worker.conf:1: ")


def test_the_sample_is_the_defaults_with_each_key_of_the_manual() -> None:
    assert config.read(SAMPLE) == NodeConfig()
    shown = [key for key, _ in KEY.findall(SAMPLE.read_text())]
    assert sorted(shown) == sorted(WORKERS) == sorted(CLIENTS)


@pytest.mark.feature("XW-WCF-4")
def test_the_sample_says_the_defaults_truly(tmp_path: Path) -> None:
    examples = ("dispatcher.servers", "path.certfile", "path.tmpdir", "login")
    lines = [
        f"{key} : {value}"
        for key, value in KEY.findall(SAMPLE.read_text())
        if key not in examples and value.strip()
    ]
    found = read(tmp_path, "\n".join(lines))
    assert (found.worker, found.grid) == (NodeConfig().worker, NodeConfig().grid)
    assert [note.partition(": ")[2].split()[0] for note in found.notes] == ["java.nio"]


@pytest.mark.feature("XW-WCF-4")
def test_the_port_is_the_servers_own(tmp_path: Path) -> None:
    text = "dispatcher.servers : a b:99 https://c:443 [::1] ::2\n"
    assert read(tmp_path, text).grid.addresses == (
        *("https://a:4325", "https://b:99", "https://c:443"),
        *("https://[::1]:4325", "https://[::2]:4325"),
    )
    assert read(tmp_path, f"{text}port.https : 1\n").grid.addresses[0] == "https://a:1"
    with pytest.raises(
        ConfigurationError, match=r"servers: .*tcp\+tls://host:port, not 'http://a'"
    ):
        read(tmp_path, "dispatcher.servers : http://a")


@pytest.mark.feature("XW-WCF-6", "XW-WCF-7", "XW-WCF-14")
def test_what_the_owner_decides_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"workpool.size : 2\npath.tmpdir : {tmp_path}\nNOOPTIMEOUT : 300\ncomputing.jobs : 9\n"
        "LOGGERLEVEL : WARN\n[attributes]\nRoom = 12\n",
    )
    worker = found.worker
    assert (worker.slots, worker.directory) == (2, tmp_path / "glidebridge-worker")
    assert (worker.idle_time, worker.max_tasks) == (timedelta(minutes=5), 9)
    assert (worker.log_level, found.attributes) == (LogLevel.WARNING, {"Room": "12"})
    assert found.notes == ()


@pytest.mark.feature("XW-WCF-5", "XW-WCF-9")
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("update.restartCommand : reboot", "a worker does not replace itself"),
        ("alive.period : 300", "the server tells its workers how often"),
        ("tomcat.port : 8080", "no web server belongs to a worker"),
        ("notify.enable : true", "there is no icon in a task bar"),
        ("tracer.enable : yes", "a worker sends no traces"),
        ("sandbox.enable : true", "there is no sandbox to choose"),
        ("activator.class : xtremweb.worker.DateActivator", "policies are not in force yet"),
        ("activator.date : * 18-7", "policies are not in force yet"),
        ("port.worker.http : 99", "a worker listens at no port"),
    ],
)
def test_a_key_without_effect_is_accepted_and_said_so(
    tmp_path: Path, line: str, reason: str
) -> None:
    found = read(tmp_path, line)
    assert (found.worker, found.grid) == (NodeConfig().worker, NodeConfig().grid)
    assert re.match(
        rf"{re.escape(line.split()[0])} has no effect: .*{reason}", note(tmp_path, line)
    )


@pytest.mark.feature("XW-WCF-15")
@pytest.mark.parametrize("level", LogLevel)
def test_a_worker_knows_the_four_levels(tmp_path: Path, level: LogLevel) -> None:
    assert read(tmp_path, f"LOGGERLEVEL : {level.value}").worker.log_level is level
    assert len(LogLevel) == 4


@pytest.mark.parametrize(
    "line",
    ["notify.enable : false", "activator.class : xtremweb.worker.AlwaysActive", "MAXRETRY : 10"],
)
def test_what_is_so_anyway_is_not_talked_about(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line).notes == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "dispacher.servers : a",
            "conf:1: unknown key 'dispacher.servers'.* mean dispatcher",
        ),
        ("slots : 2", r"key 'slots' stands before the first \[section\]; it belongs into \[worker"),
        ("activator.class : Sometimes", "activator.class must be one of AlwaysActive, DateActivat"),
        ("workpool.size : many", "workpool.size must be a whole number, not 'many'"),
        ("path.tmpdir :", "path.tmpdir must be a path, and is empty"),
        ("xtremweb.role : server", "xtremweb.role must be worker or client, not 'server'"),
        ("[server]", r"unknown section \[server\]; known sections are \[worker\], \[grid\]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["password : x", "[grid]\npassword = x"])
def test_a_password_wants_a_file_that_nobody_else_reads(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).grid.password == "x"
    assert "'x'" not in repr(read(tmp_path, text))
    with pytest.raises(ConfigurationError, match=r"others can read this password \(mode 644\)"):
        read(tmp_path, text, 0o644)


@pytest.mark.feature("XW-WCF-1")
def test_the_file_is_looked_for_where_the_manual_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    for place in (here / "conf", home / ".xtremweb"):
        place.mkdir(parents=True)
    monkeypatch.chdir(here)
    environment = {"HOME": str(home)}
    assert config.place(environment) is None
    (home / ".xtremweb" / "xtremweb.worker.conf").write_text("")
    assert config.place(environment) == home / ".xtremweb" / "xtremweb.worker.conf"
    (here / "conf" / "xtremweb.worker.conf").write_text("")
    assert config.place(environment) == Path("conf/xtremweb.worker.conf")
