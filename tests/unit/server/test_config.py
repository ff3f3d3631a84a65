"""What the administrator may set, and what he is told when it is wrong."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import ConfigurationError, UnknownObject
from desktopgrid.model.sites import SITE_OF_KIND, keys_of, read_sites
from desktopgrid.server import config
from desktopgrid.server.config import SECTIONS, LogLevel, ServerConfig
from desktopgrid.server.founding import configuration_text, sample_text
from desktopgrid.server.home import Home

CONF = Path(__file__).parents[3] / "conf"


def read(tmp_path: Path, text: str) -> ServerConfig:
    (tmp_path / "server.conf").write_text(text)
    return config.read(tmp_path / "server.conf")


@pytest.mark.feature("XW-CFG-1")
def test_the_sample_is_the_defaults_with_an_explanation_each():
    assert config.read(CONF / "server.conf") == ServerConfig()
    text = (CONF / "server.conf").read_text()
    for section, kind in SECTIONS.items():
        keys = re.findall(r"^#(\w+) =", text.split(f"[{section}]")[1].split("\n[")[0], re.M)
        assert sorted(keys) == sorted(field.name for field in dataclasses.fields(kind))


def test_two_doors_have_not_the_same_port(tmp_path):
    assert read(tmp_path, "[doors]\ntcp_port = 4321\nudp_port = 4321\n").doors.tcp_port == 4321
    with pytest.raises(ConfigurationError, match="a door has a port of its own"):
        read(tmp_path, "[doors]\ntcp_port = 4321\nxmlrpc_port = 4321\n")
    with pytest.raises(ConfigurationError, match="between 0 and 65535"):
        read(tmp_path, "[doors]\nudp_port = 65536\n")


def test_the_sample_says_the_defaults_truly(tmp_path):
    text = re.sub(r"^#(\w+ =)", r"\1", sample_text("server"), flags=re.M)
    text = re.sub(r"^names = .*$", "names =", text, flags=re.M)
    assert read(tmp_path, text) == ServerConfig()


@pytest.mark.feature("XW-SEC-1")
def test_the_sample_shows_an_issuer_with_each_of_its_keys(tmp_path):
    example = sample_text("server").partition("[issuer wlcg]")[2]
    lines = re.sub(r"^#   ", "", example, flags=re.M)
    [issuer] = read(tmp_path, f"[issuer wlcg]\n{lines}").issuers
    keys = re.findall(r"^(\w+) =", lines, re.M)
    assert sorted(["name", *keys]) == sorted(field.name for field in dataclasses.fields(issuer))
    assert (issuer.name, issuer.audience) == ("wlcg", ("https://grid.example.org",))


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[issuer]\nurl = https://a\naudience = b\n", "an issuer is written \\[issuer NAME\\]"),
        ("[issuer a]\nurl = http://a\naudience = b\n", "url must be https"),
        ("[issuer a]\nurl = https://a\naudience =\n", "audience must name at least one"),
        ("[issuer a]\nurl = https://a\n", "lacks the key 'audience'"),
        (
            "[issuer a]\nurl = https://a\naudience = b\n"
            "[issuer c]\nurl = https://a\naudience = b\n",
            "https://a is \\[issuer a\\]",
        ),
    ],
)
def test_an_issuer_that_is_described_wrong_is_refused(tmp_path, text, reason):
    with pytest.raises(ConfigurationError, match=reason):
        read(tmp_path, text)


def test_every_key_of_a_new_grid_can_be_set(tmp_path):
    settings = {"port": "0", "address": "127.0.0.1", "names": "a, b", "url": "sqlite:///x"}
    found = read(tmp_path, configuration_text(settings))
    assert (found.server.port, found.server.address) == (0, "127.0.0.1")
    assert found.server.names == ("a", "b")
    assert found.database.url == "sqlite:///x"


@pytest.mark.feature("XW-CFG-8")
@pytest.mark.parametrize("text", ["[server]\nport = 5000\n", "port.https = 5000\n[server]\n"])
def test_the_port_is_4325_unless_it_is_set(tmp_path, text):
    assert read(tmp_path, "").server.port == 4325
    assert read(tmp_path, text).server.port == 5000


@pytest.mark.feature("XW-CFG-14")
@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_the_log_has_four_levels(tmp_path, level):
    text = f"[server]\nlog_level = {level}\n"
    assert read(tmp_path, text).server.log_level is LogLevel(level)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[server]\nprot = 1\n", r"server.conf:2: \[server\] unknown key 'prot'.*alive_period"),
        ("[sever]\n", r"server.conf:1: unknown section \[sever\]"),
        ("[server]\nport = many\n", "server.conf:2: .*port must be a whole number"),
        ("[server]\nport = 70000\n", "port must be between 0 and 65535"),
        ("port.https = 2\n[server]\nport = 1\n", "port is what port.https on line 1 says already"),
        ("[server]\nport.https = 2\n", "manual's key: it stands before .* it is called port$"),
        ("[limits]\nport.https = 2\n", r"manual's key: it stands before the first \[section\]$"),
        ("[server]\nalive_period = 0 s\n", "alive_period must be between"),
        ("[server]\nlog_level = loud\n", "one of debug, info, warn, error"),
        ("[limits]\nmax_works = -1\n", "max_works must not be negative"),
        ("[watching]\nwatch_from = here\n", r"\[watching\] watch_from: 'here' does not appear"),
        ("[watching]\nlog_mib = 0\n", "log_mib must be at least 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        read(tmp_path, text)


@pytest.mark.parametrize("name", SITE_OF_KIND)
def test_the_samples_of_sites_are_sites(name):
    assert set(read_sites(CONF / "sites.d")) == set(SITE_OF_KIND)
    site = read_sites(CONF / "sites.d")[name]
    assert site.computing_element == name
    assert (CONF / "sites.d" / f"{name}.conf").read_text() == sample_text(name)


@pytest.mark.parametrize("name", sorted(set(SITE_OF_KIND) - {"local", "fake"}))
def test_a_site_s_sample_knows_every_key_and_takes_it(tmp_path, name):
    text = sample_text(name)
    keys = re.findall(r"^#?(\w+) =", text, re.M)
    assert sorted(keys) == sorted(keys_of(SITE_OF_KIND[name]))
    write_site(tmp_path, "all.conf", re.sub(r"^#(\w+ =)", r"\1", text, flags=re.M))
    assert read_sites(tmp_path)[name].certified_users_only


@pytest.mark.parametrize("name", SITE_OF_KIND)
def test_a_site_s_sample_says_the_defaults_truly(name):
    site = read_sites(CONF / "sites.d")[name]
    examples = {"ssh", "url", "contact"}
    if name == "local":  # of two pilots at a time, which make contact at once
        examples |= {"max_pilots", "max_idle", "queue_limit"}
    for field in dataclasses.fields(site):
        if field.default is not dataclasses.MISSING and field.name not in examples:
            assert getattr(site, field.name) == field.default, field.name


def write_site(directory: Path, file: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / file).write_text(text)


def test_a_site_has_caps_for_the_server_and_keys_for_its_door(tmp_path):
    write_site(
        tmp_path,
        "lal.conf",
        "[site lal]\ncomputing_element = condor\nmax_pilots = 3\nschedd = s.lal.fr\n"
        "wall_time = 2 h\n",
    )
    site = read_sites(tmp_path)["lal"]
    assert (site.schedd, site.wall_time) == ("s.lal.fr", timedelta(hours=2))
    assert (site.site.name, site.site.max_pilots, site.site.max_idle) == ("lal", 3, 5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[site lal]\ncomputing_element = local\nmax_idel = 1\n",
            "lal.conf:3: .*unknown key 'max_idel', perhaps max_idle; known keys are .*max_idle",
        ),
        (
            "[site lal]\ncomputing_element = arc\nurl = https://x\nschedd = s\n",
            r"lal.conf:4: \[site lal\] key 'schedd' is for condor, and this is arc; known keys are"
            " .*url, queue",
        ),
        (
            "[site lal]\nssh_key = /k\ncomputing_element = local\n",
            "lal.conf:2: .*key 'ssh_key' is for slurm and pbs, and this is local",
        ),
        ("[site lal]\ncomputing_element = arc\n", "lal.conf:1: .*url must be the CE's"),
        ("[site lal]\ncomputing_element = gram\n", "lal.conf:1: .*contact must be"),
        ("[site lal]\ncomputing_element = slurm\nssh = x\n", "ssh must be USER@HOST"),
        ("[site lal]\ncomputing_element = slurm\nssh = a@b:0\n", "ssh must be USER@HOST"),
        ("[site lal]\ncomputing_element = slurm\nssh_key = /k\n", "of use with ssh"),
        ("[site lal]\ncomputing_element = slurm\nssh = a@b\nssh_key = k\n", "an absolute path"),
        ("[site lal]\ncomputing_element = slurm\ndirectory = a/../b\n", "directory must be"),
        ("[site lal]\ncomputing_element = slurm\nbin_directory = bin\n", "absolute path"),
        ("[site lal]\ncomputing_element = pbs\noptions = 'x\n", "words as a shell reads them"),
        ("[site lal]\ncomputing_element = pbs\ndialect = lsf\n", "one of openpbs, torque"),
        ("[site lal]\ncomputing_element = pbs\nanswer_within = 0 s\n", "at least a second"),
        ("[site ../x]\ncomputing_element = local\n", "a site's name is letters"),
        ("[site x]\ncomputing_element = condor\ntoken = ~nobodyhere/t\n", "has such a home"),
        ("[site lal]\n", "lacks the key 'computing_element'"),
        (
            "[site lal]\ncomputing_element = moon\n",
            "computing_element must be one of condor, local, .*not 'moon'",
        ),
        ("[site lal]\ncomputing_element = local\ncores = 0\n", "cores must be at least 1"),
        ("[site lal]\ncomputing_element = local\nmax_idle = -1\n", "must not be negative"),
        ("[site lal]\ncomputing_element = local\nwall_time = 0\n", "at least a second"),
        ("[site]\ncomputing_element = local\n", r"a site is written \[site NAME\]"),
        ("[server]\nport = 1\n", r"unknown section \[server\]"),
    ],
)
def test_a_wrong_site_is_named_with_its_line(tmp_path, text, sentence):
    write_site(tmp_path, "lal.conf", text)
    with pytest.raises(ConfigurationError, match=sentence):
        read_sites(tmp_path)


def test_a_site_stands_in_one_file(tmp_path):
    for file in ("a.conf", "b.conf"):
        write_site(tmp_path, file, "[site lal]\ncomputing_element = local\n")
    with pytest.raises(ConfigurationError, match=r"b.conf:1: .*stands in .*a.conf already"):
        read_sites(tmp_path)


def test_no_directory_means_no_sites(tmp_path):
    assert read_sites(tmp_path / "sites.d") == {}


def test_a_directory_without_a_configuration_is_no_grid(tmp_path):
    with pytest.raises(UnknownObject, match="xwserver init"):
        Home.open(tmp_path)


def test_a_home_knows_its_sites_and_database(tmp_path):
    (tmp_path / "server.conf").write_text("")
    write_site(tmp_path / "sites.d", "lal.conf", "[site lal]\ncomputing_element = local\n")
    home = Home.open(tmp_path)
    assert list(home.caps) == ["lal"]
    assert home.database_url == f"sqlite:///{tmp_path}/grid.db"
