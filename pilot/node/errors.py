"""What goes wrong on a worker node, by whose fault it is."""

from __future__ import annotations

from desktopgrid.model.errors import GridError


class UnusableInput(GridError):
    """A work's own files or names are of no use on any host, such as a zip that climbs out."""

    code = "unusable-input"


class CouldNotRun(GridError):
    """This host could not stage, start or store a task; another one may."""

    code = "could-not-run"


class BrokenOff(GridError):
    """A transfer was broken off, because nobody wants it any more."""

    code = "broken-off"


class DirectoryInUse(GridError):
    """Another worker uses the same directory."""

    code = "directory-in-use"
