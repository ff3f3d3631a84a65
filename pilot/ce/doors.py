"""From what the administrator wrote about a site to its computing element."""

from collections.abc import Callable
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.sites import SiteConfig
from pilot.ce.base import ComputingElement, PilotDescription
from pilot.ce.local import LocalCE


def build_computing_element(site: SiteConfig, directory: Path) -> ComputingElement:
    """The door of ``site``; ``directory`` is for what a door of ours has to keep (local).

    Raises BadRequest for a kind that there is no module for yet, and for one whose client library
    is not installed.
    """
    build = _DOORS.get(site.computing_element)
    if build is None:
        known = ", ".join(sorted(_DOORS))
        raise BadRequest(
            f"site {site.name}: there is no computing element {site.computing_element!r}; "
            f"there are {known}"
        )
    return build(site, directory)


def describe_pilot(
    site: SiteConfig, stamp: str, bundle: Path, files: tuple[Path, ...], arguments: tuple[str, ...]
) -> PilotDescription:
    """A pilot as ``site`` wants it: what it asks for, how long it may wait and run."""
    return PilotDescription(
        stamp=stamp,
        bundle=bundle,
        arguments=arguments,
        files=files,
        # A bare name is what the first line of the bundle looks for anyway.
        python=site.python if "/" in site.python else None,
        cores=site.cores,
        memory_mib=site.memory_mib,
        disk_mib=site.disk_mib,
        wall_time=site.wall_time,
        queue_limit=site.queue_limit,
        attributes={"GlidebridgeSite": site.name},
    )


def _condor(site: SiteConfig, directory: Path) -> ComputingElement:
    try:
        # Only who has such a site needs HTCondor's bindings.
        from condor.errors import CredentialRefused
        from condor.pool import Schedd, ScheddLocation
        from pilot.ce.condor import CondorCE
    except ImportError as absent:
        raise BadRequest(
            f"site {site.name} needs HTCondor's Python bindings (extra [condor]): {absent}"
        ) from absent
    location = ScheddLocation(
        site.schedd or None,
        site.pool or None,
        site.address or None,
        Path(site.token).expanduser() if site.token else None,
    )
    try:
        return CondorCE(Schedd(location), name=f"site {site.name}")
    except CredentialRefused as refused:
        raise BadRequest(f"site {site.name}: {refused}") from refused


def _local(site: SiteConfig, directory: Path) -> ComputingElement:
    return LocalCE(directory / site.name, name=f"site {site.name}")


_DOORS: dict[str, Callable[[SiteConfig, Path], ComputingElement]] = {
    "condor": _condor,
    "local": _local,
}
