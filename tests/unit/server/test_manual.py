"""The XWHEP manual's server file: what each key means, and what is said of those that mean nothing
here.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.manual import Means
from desktopgrid.server import config
from desktopgrid.server.config import DoorsSection, LogLevel, Module, ServerConfig
from desktopgrid.server.home import Home
from desktopgrid.server.manual import MANUAL, PORTS
from desktopgrid.server.saying import Of, module_of

SAMPLE = Path(__file__).parents[3] / "conf" / "xtremweb.server.conf"
KEY = re.compile(r"^#([\w.]+) =(.*)$", re.M)


def read(tmp_path: Path, text: str, mode: int = 0o600) -> ServerConfig:
    path = tmp_path / "xtremweb.server.conf"
    path.write_text(text)
    path.chmod(mode)
    return config.read(path)


@pytest.mark.feature("XW-CFG-1")
def test_the_sample_is_the_defaults_with_each_key_of_the_manual(tmp_path):
    assert config.read(SAMPLE) == ServerConfig()
    shown = [key for key, _ in KEY.findall(SAMPLE.read_text())]
    assert sorted(shown) == sorted(MANUAL)


def test_the_sample_says_the_defaults_truly(tmp_path):
    examples = ("XWServer", "ModulesLogged", "port.xlmrpc")
    lines = [
        f"{key} = {value}"
        for key, value in KEY.findall(SAMPLE.read_text())
        if key not in examples and not key.startswith("XWdb") and value.strip()
    ]
    found = read(tmp_path, "\n".join(lines))
    assert found.server == ServerConfig().server
    assert found.limits == ServerConfig().limits
    assert [note.partition(": ")[2] for note in found.notes] == [NIO]


NIO = "java.nio has no effect: nothing here is written in Java"


@pytest.mark.feature(
    *("XW-CFG-4", "XW-CFG-5", "XW-CFG-6", "XW-CFG-7"),
    *("XW-CFG-8", "XW-CFG-9", "XW-CFG-10"),
)
def test_the_ports_of_the_manual_have_its_defaults_and_can_be_set(tmp_path):
    names = ["tcp", "udp", "worker.http", "http", "https", "xmlrpc", "sunrpc"]
    assert {f"port.{name}": 4321 + n for n, name in enumerate(names)} == PORTS
    shown = {key: value.strip() for key, value in KEY.findall(SAMPLE.read_text())}
    assert {key: int(shown[key]) for key in PORTS} == PORTS
    for key in [*PORTS, "port.xlmrpc"]:
        default = PORTS[key.replace("xlm", "xml")]
        assert read(tmp_path, f"{key} = {default}").notes == ()
        with pytest.raises(ConfigurationError, match=f"{key} must be between 0 and 65535"):
            read(tmp_path, f"{key} = 70000")
    assert read(tmp_path, "port.https : 443").server.port == 443
    doors = read(tmp_path, "port.tcp = 1\nport.udp = 2\nport.xlmrpc = 3").doors
    assert doors == DoorsSection(tcp_port=1, udp_port=2, xmlrpc_port=3)
    for key in ("port.http", "port.sunrpc"):
        [note] = read(tmp_path, f"{key} = 80").notes
        assert f"{key} has no effect" in note
        assert (SAMPLE.parents[1] / "docs/decisions/0013-which-doors-there-are.md").exists()


@pytest.mark.feature("XW-CFG-11")
@pytest.mark.parametrize("value", ["true", "false", "4329", ""])
def test_any_java_nio_is_accepted_and_changes_nothing(tmp_path, value):
    found = read(tmp_path, f"java.nio = {value}")
    assert found.server == ServerConfig().server
    assert found.notes == (f"{tmp_path}/xtremweb.server.conf:1: {NIO}",)


@pytest.mark.feature("XW-CFG-3")
def test_a_list_of_two_servers_is_two_servers(tmp_path):
    found = read(tmp_path, "XWServer = a.example.org b.example.org")
    assert found.server.names == ("a.example.org", "b.example.org")


@pytest.mark.feature("XW-CFG-12")
@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("XWdbName = xw", "mariadb+pymysql://localhost/xw?charset=utf8mb4"),
        ("XWdbUser = ann", "mariadb+pymysql://ann@localhost/xtremweb?charset=utf8mb4"),
        (
            "XWdbUser = ann\nXWdbPass = a:b@c/d\nXWdbName = xw\nXWdbHost = db:3307",
            "mariadb+pymysql://ann:a%3Ab%40c%2Fd@db:3307/xw?charset=utf8mb4",
        ),
        (
            "XWdbUser = ann\nXWdbHost = /run/my.sock",
            "mariadb+pymysql://ann@/xtremweb?unix_socket=/run/my.sock&charset=utf8mb4",
        ),
    ],
)
def test_the_keys_of_the_database_name_a_mariadb(tmp_path, text, url):
    found = read(tmp_path, text)
    assert found.database.address == url
    assert found.notes == ()
    parsed = make_url(url)
    assert parsed.password in (None, "a:b@c/d")
    assert "a:b" not in repr(found), "a password is in no repr"


def test_without_a_key_of_the_database_it_is_a_file_of_the_grid(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "xtremweb.server.conf").write_text("port.https = 0\n")
    home = Home.open(tmp_path)
    assert home.configuration == tmp_path / "conf" / "xtremweb.server.conf"
    assert home.database_url == f"sqlite:///{tmp_path}/grid.db"


def test_two_configurations_of_a_grid_are_one_too_many(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "xtremweb.server.conf").write_text("")
    (tmp_path / "server.conf").write_text("")
    with pytest.raises(ConfigurationError, match=r"server.conf is this grid's .* remove one"):
        Home.open(tmp_path)


@pytest.mark.feature("XW-CFG-13")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_pass_phrase_that_everybody_knows_is_refused(tmp_path, mode):
    with pytest.raises(ConfigurationError, match="conf:2: XWpassPhrase is the pass phrase that"):
        read(tmp_path, "XWkeyStore = xwserver.keys\nXWpassPhrase = XWCertPass\n", mode)


def test_another_pass_phrase_is_not_needed_and_that_is_said(tmp_path):
    found = read(tmp_path, "XWkeyStore = xwserver.keys\nXWpassPhrase = s3cret\n")
    keys = [note.partition(": ")[2].split()[0] for note in found.notes]
    assert keys == ["XWkeyStore", "XWpassPhrase"]
    assert "s3cret" not in str(found.notes)


@pytest.mark.parametrize(
    "text", ["XWdbPass = x", "XWpassPhrase = x", "[database]\npassword = x", "admin.password = x"]
)
def test_a_secret_wants_a_file_that_nobody_else_reads(tmp_path, text):
    read(tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"others can read this .*chmod 600 the file"):
        read(tmp_path, text, 0o640)


def test_a_password_in_a_url_is_a_secret_too(tmp_path):
    read(tmp_path, "[database]\nurl = mariadb+pymysql://ann@db/xw\n", 0o644)
    with pytest.raises(ConfigurationError, match=r"conf:2: others can read this password"):
        read(tmp_path, "[database]\nurl = mariadb+pymysql://ann:s3cret@db/xw\n", 0o644)
    with pytest.raises(ConfigurationError, match=r"\[database\] url says all"):
        read(tmp_path, "XWdbName = xw\n[database]\nurl = sqlite:///x\n")


@pytest.mark.feature("XW-CFG-14")
@pytest.mark.parametrize("level", ["debug", "INFO", "warn", "error"])
def test_the_manual_has_the_same_four_levels(tmp_path, level):
    found = read(tmp_path, f"LOGGERLEVEL = {level}")
    assert found.server.log_level is LogLevel(level.lower())


def test_a_server_says_what_it_is(tmp_path):
    assert read(tmp_path, "xtremweb.role = server\nalive.period = 30\n").server.alive_period == (
        timedelta(seconds=30)
    )
    with pytest.raises(ConfigurationError, match="must be server, not 'worker': this is the file"):
        read(tmp_path, "xtremweb.role = worker")


@pytest.mark.feature("XW-CFG-2")
def test_only_the_modules_named_write_to_the_log(tmp_path):
    named = read(tmp_path, "ModulesLogged = DBI, Comm\n").server.modules_logged
    assert named == (Module.DATABASE, Module.COMMUNICATION)
    heard = Of(named)

    def is_heard(logger: str, level: int = logging.INFO) -> bool:
        return heard.filter(logging.LogRecord(logger, level, "", 0, "text", None, None))

    assert is_heard("desktopgrid.server.database.engine")
    assert is_heard("desktopgrid.server.listeners.login")
    assert not is_heard("desktopgrid.server.core", logging.WARNING)
    assert is_heard("desktopgrid.server.core", logging.ERROR), "an error is always worth hearing"
    with pytest.raises(ConfigurationError, match="ModulesLogged must be one of DBI, Comm, Task"):
        read(tmp_path, "ModulesLogged = Disk")


@pytest.mark.parametrize(
    ("logger", "module"),
    [
        ("desktopgrid.server.journal", Module.DATABASE),
        ("sqlalchemy.engine", Module.DATABASE),
        ("desktopgrid.server.listeners", Module.COMMUNICATION),
        ("aiohttp.server", Module.COMMUNICATION),
        ("desktopgrid.server.core", Module.TASKS),
        ("desktopgrid.server.journals", Module.TASKS),
        ("", Module.TASKS),
    ],
)
def test_each_logger_is_of_one_module(logger, module):
    assert module_of(logger) is module


def test_every_key_means_a_field_that_there_is():
    for known in MANUAL.values():
        if isinstance(known, Means):
            assert known.key in vars(config.SECTIONS[known.section])["__dataclass_fields__"]
