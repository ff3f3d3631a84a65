"""The worker's configuration file, and the sample of it that we ship."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import ConfigurationError
from pilot.node import config
from pilot.node.config import LogLevel, NodeConfig, WorkerConfig

SAMPLE = Path(__file__).parents[3] / "conf" / "worker.conf"


def test_the_sample_says_what_the_defaults_are(tmp_path: Path) -> None:
    assert config.read(SAMPLE) == NodeConfig()
    uncommented = re.sub(r"^# (\w+ =)", r"\1", SAMPLE.read_text(), flags=re.MULTILINE)
    (tmp_path / "worker.conf").write_text(uncommented)
    found = config.read(tmp_path / "worker.conf")
    identity = Path("~/.glidebridge/worker.identity").expanduser()
    assert found.worker == dataclasses.replace(
        WorkerConfig(), identity=identity, directory=Path("~/.glidebridge/worker").expanduser()
    )
    assert found.attributes == {"Group": "physics"}
    assert found.fetchers == {"davs": "/usr/local/bin/fetch-davs"}


def test_the_sample_names_every_key() -> None:
    text = SAMPLE.read_text()
    for field in dataclasses.fields(WorkerConfig):
        assert f"# {field.name} =" in text


@pytest.mark.feature("XW-WCF-7")
def test_what_the_owner_decides_is_read(tmp_path: Path) -> None:
    path = tmp_path / "worker.conf"
    path.write_text(
        "[worker]\nslots: 3\nidle_time = 5 min\nlog_level = warn\n[attributes]\nRoom = 12\n"
    )
    assert config.read(path) == NodeConfig(
        WorkerConfig(slots=3, idle_time=timedelta(minutes=5), log_level=LogLevel.WARNING),
        attributes={"Room": "12"},
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "[worker]\nslot = 2",
            "2: .worker. unknown key 'slot', perhaps slots; known keys are identity, user",
        ),
        ("[worker]\nslots = -2", "1: .worker. slots must not be negative"),
        (
            "[server]\nport = 2",
            "1: unknown section .server.; known sections are .worker., .grid., .attri",
        ),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "worker.conf"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"worker.conf:{message}"):
        config.read(path)


@pytest.mark.parametrize("command", ["", "'never closed"])
def test_a_fetcher_that_is_no_command_is_refused(tmp_path: Path, command: str) -> None:
    path = tmp_path / "worker.conf"
    path.write_text(f"[fetchers]\ndavs = {command}\n")
    with pytest.raises(ConfigurationError, match=r"worker.conf:2: .*davs://"):
        config.read(path)
