"""A machine with the client alone is told what a server needs besides."""

from __future__ import annotations

import configparser
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement

from desktopgrid.server import command
from tests.feature_report import ROOT


@pytest.mark.feature("XW-PKG-13")
def test_all_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in ("jwt", "uvloop") else 1)
    with pytest.raises(SystemExit, match=r"jwt, uvloop; pip install 'glidebridge\[server\]'"):
        command.main()


def test_they_are_those_that_setup_cfg_wants() -> None:
    wanted = configparser.ConfigParser()
    wanted.read(ROOT / "setup.cfg")
    lines = wanted["options"]["install_requires"] + wanted["options.extras_require"]["server"]
    names = {Requirement(line).name.lower() for line in lines.splitlines() if line.strip()}
    brought = packages_distributions()
    found = {brought[module][0].lower().replace("_", "-") for module in command.LIBRARIES}
    assert found == names
