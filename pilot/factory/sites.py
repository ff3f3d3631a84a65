"""The sites that one can reach from here, and the places in which their doors keep things.

Which directory describes them: the first of these that is named or exists counts.

1. ``--sites DIR``
2. ``$GLIDEBRIDGE_SITES``
3. ``$GLIDEBRIDGE_HOME/sites.d``, the grid's own, as `xwserver` finds it
4. ``sites.d`` beside the identity file, for the administrator on the server's machine
5. ``./sites.d``
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from desktopgrid.model.errors import ConfigurationError, UnknownObject
from desktopgrid.model.sites import SiteConfig, read_sites
from pilot.ce.base import ComputingElement
from pilot.ce.doors import build_computing_element

logger = logging.getLogger(__name__)

VARIABLE = "GLIDEBRIDGE_SITES"
HOME_VARIABLE = "GLIDEBRIDGE_HOME"
DIRECTORY = "sites.d"


class Sites:
    """The sites that a directory describes, and their doors, each opened when it is asked for."""

    def __init__(
        self,
        configurations: Mapping[str, SiteConfig],
        state: Path,
        source: str = "the sites known here",
    ) -> None:
        """``state`` is where doors of this machine keep their pilots."""
        self._configurations, self._state, self._source = configurations, state, source
        self._doors: dict[str, ComputingElement] = {}
        self._directory: Path | None = None
        self._seen: _Files = ()
        self.problem: str | None = None
        """What is wrong with the newest files, which do not count until it is mended."""

    @classmethod
    def read(cls, directory: Path, environment: Mapping[str, str] = os.environ) -> Sites:
        """Those of ``directory``; raises ConfigurationError."""
        seen = _files_in(directory)
        sites = cls(read_sites(directory), state_directory(environment), str(directory))
        sites._directory, sites._seen = directory, seen
        return sites

    def refresh(self) -> bool:
        """Read the files again if any has changed; whether the sites are others now.

        Files with a mistake in them leave all sites as they were: ``problem`` has file and line,
        and the log has it once. Doors of sites that did not change stay open.
        """
        if self._directory is None:
            return False
        seen = _files_in(self._directory)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            _existing(self._directory)
            found = read_sites(self._directory)
        except (ConfigurationError, UnknownObject) as error:
            self.problem = str(error)
            logger.error("Kept the sites as they were: %s", error)
            return False
        changed = {
            name
            for name in {*found, *self._configurations}
            if found.get(name) != self._configurations.get(name)
        }
        for name in changed:
            self._doors.pop(name, None)
        self._configurations, self.problem = found, None
        if changed:
            logger.info("Read the sites again; changed are %s", ", ".join(sorted(changed)))
        return bool(changed)

    def __repr__(self) -> str:
        return f"<Sites of {self._source}: {', '.join(self.names) or 'none'}>"

    @property
    def names(self) -> list[str]:
        """What the sites are called."""
        return sorted(self._configurations)

    @property
    def configurations(self) -> Mapping[str, SiteConfig]:
        """What the administrator wrote about each."""
        return {name: self[name] for name in self.names}

    def __getitem__(self, name: str) -> SiteConfig:
        """What the administrator wrote about a site; raises UnknownObject."""
        try:
            return self._configurations[name]
        except KeyError:
            known = ", ".join(self.names) or "none"
            raise UnknownObject(
                f"there is no site {name!r} in {self._source}; sites there are: {known}"
            ) from None

    def door(self, name: str) -> ComputingElement:
        """The computing element of a site; raises UnknownObject, BadRequest."""
        if name not in self._doors:
            self._doors[name] = build_computing_element(self[name], self._state)
        return self._doors[name]


_Files = tuple[tuple[str, int, int, int], ...]


def _files_in(directory: Path) -> _Files:
    """What tells whether a file there was changed, came or went."""
    found = []
    for path in sorted(directory.glob("*.conf")):
        try:
            facts = path.stat()
        except OSError:
            continue  # it went while we looked
        found.append((path.name, facts.st_mtime_ns, facts.st_size, facts.st_ino))
    return tuple(found)


def sites_directory(
    named: Path | None, identity: Path, environment: Mapping[str, str] = os.environ
) -> Path:
    """The directory that describes the sites; raises UnknownObject that names where it looked."""
    if named is not None:
        return _existing(named)
    if environment.get(VARIABLE):
        return _existing(Path(environment[VARIABLE]))
    homes = [Path(environment[HOME_VARIABLE])] if environment.get(HOME_VARIABLE) else []
    candidates = [home / DIRECTORY for home in [*homes, identity.parent, Path()]]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = ", ".join(str(candidate.absolute()) for candidate in candidates)
    raise UnknownObject(
        f"no directory describes the sites (looked for {looked});"
        f" name one by --sites or ${VARIABLE}"
    )


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise UnknownObject(f"there is no directory {directory} that would describe the sites")
    return directory


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where what outlives a command is kept: the pilots that are processes of this machine."""
    home = environment.get("XDG_STATE_HOME")
    base = Path(home) if home else Path(environment.get("HOME") or Path.home()) / ".local" / "state"
    return base / "glidebridge" / "pilots"
