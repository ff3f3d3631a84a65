"""From what the administrator wrote about a site to its computing element."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.sites import (
    SITE_OF_KIND,
    ArcSite,
    BatchSite,
    CondorSite,
    FakeSite,
    GramSite,
    LocalSite,
    PbsSite,
    SiteConfig,
    SlurmSite,
    login_of,
    ports_of,
)
from pilot.ce.base import ComputingElement, Credential, CredentialKind, JobDescription
from pilot.ce.batch import BatchCE
from pilot.ce.batch_system import BatchSystem
from pilot.ce.fake import FakeCE
from pilot.ce.local import LocalCE
from pilot.ce.pbs import Pbs
from pilot.ce.shell import LocalShell, Shell
from pilot.ce.slurm import Slurm

GRID_AUTHORITIES = Path("/etc/grid-security/certificates")


def build_computing_element(
    site: SiteConfig, directory: Path, credential: Credential | None = None
) -> ComputingElement:
    """The door of ``site``; ``directory`` is for what a door of ours has to keep (local).

    A user's own ``credential`` takes the place of the site's. Raises BadRequest for a kind that
    there is no module for yet, for one whose client library is not installed, and for one that
    cannot use that credential.
    """
    build = _DOORS.get(type(site))
    if build is None:
        known = ", ".join(name for name, kind in SITE_OF_KIND.items() if kind in _DOORS)
        raise BadRequest(
            f"site {site.name}: there is no computing element {site.computing_element!r}; "
            f"there are {known}"
        )
    return build(site, directory, credential)


def describe_pilot(
    site: SiteConfig, stamp: str, bundle: Path, files: tuple[Path, ...], arguments: tuple[str, ...]
) -> JobDescription:
    """A pilot as ``site`` wants it: what it asks for, how long it may wait and run."""
    return JobDescription(
        stamp=stamp,
        program=bundle,
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


def _condor(site: CondorSite, directory: Path, credential: Credential | None) -> ComputingElement:
    try:
        # Only who has such a site needs HTCondor's bindings.
        from condor.errors import CredentialRefused
        from condor.pool import Schedd, ScheddLocation
        from pilot.ce.condor import CondorCE
    except ImportError as absent:
        raise BadRequest(
            f"site {site.name} needs HTCondor's Python bindings (extra [condor]): {absent}"
        ) from absent
    if credential is not None:
        if credential.kind is not CredentialKind.TOKEN:
            raise _unusable(site, credential, "HTCondor takes tokens")
        site = replace(site, token=credential.file)
    location = ScheddLocation(
        site.schedd or None, site.pool or None, site.address or None, site.token
    )
    try:
        return CondorCE(Schedd(location), name=f"site {site.name}", token=site.token)
    except CredentialRefused as refused:
        raise BadRequest(f"site {site.name}: {refused}") from refused


def _arc(site: ArcSite, directory: Path, credential: Credential | None) -> ComputingElement:
    try:
        # Only who has such a site needs them.
        from pilot.ce.arc import ArcCE
        from pilot.ce.arc_rest import Arex
        from pilot.ce.delegations import Delegations
    except ImportError as absent:
        raise BadRequest(f"site {site.name} needs the extra [grid]: {absent}") from absent
    credential = credential or _own(site)
    arex = Arex(site.url, credential, site.ca_directory, site.answer_within)
    delegations = Delegations(arex, directory / site.name) if site.delegate else None
    return ArcCE(arex, f"site {site.name}", site.queue, site.software, delegations)


def _own(site: ArcSite) -> Credential:
    """The site's own credential, or the proxy that grid commands would take; raises BadRequest."""
    from desktopgrid.credentials.proof import proxy_path

    if site.token and site.proxy:
        raise BadRequest(f"site {site.name} names a proxy and a token; only one can be shown")
    if site.token:
        return Credential(CredentialKind.TOKEN, site.token)
    return Credential(CredentialKind.PROXY, site.proxy or proxy_path())


def _gram(site: GramSite, directory: Path, credential: Credential | None) -> ComputingElement:
    try:
        from desktopgrid.credentials.proof import proxy_path
        from pilot.ce.globus import Globus
        from pilot.ce.gram import GramCE
    except ImportError as absent:
        raise BadRequest(f"site {site.name} needs the extra [grid]: {absent}") from absent
    if credential is not None and credential.kind is not CredentialKind.PROXY:
        raise _unusable(site, credential, "GRAM takes X.509 proxies")
    proxy = credential.file if credential else site.proxy or proxy_path()
    authorities = site.ca_directory or GRID_AUTHORITIES
    host = site.callback_host or socket.getfqdn()
    globus = Globus(
        site.contact,
        proxy,
        authorities,
        site.command_directory,
        host,
        site.callback_ports.replace("-", ","),
        site.answer_within,
    )
    ports = ports_of(site.callback_ports) if site.callback_ports else None
    return GramCE(globus, authorities, f"site {site.name}", site.queue, ports)


def _local(site: LocalSite, directory: Path, credential: Credential | None) -> ComputingElement:
    if credential is not None:
        raise _unusable(site, credential, "jobs are processes of the account that submits them")
    return LocalCE(directory / site.name, name=f"site {site.name}")


def _slurm(site: SlurmSite, directory: Path, credential: Credential | None) -> ComputingElement:
    return _batch(site, Slurm(site.partition, site.account, site.qos, site.options), credential)


def _pbs(site: PbsSite, directory: Path, credential: Credential | None) -> ComputingElement:
    return _batch(site, Pbs(site.dialect, site.queue, site.account, site.options), credential)


def _batch(site: BatchSite, system: BatchSystem, credential: Credential | None) -> ComputingElement:
    if credential is not None:
        raise _unusable(site, credential, "its jobs are those of one account, the site's")
    return BatchCE(
        system,
        _shell(site),
        site.directory,
        site.answer_within,
        site.bin_directory,
        name=f"site {site.name}",
    )


def _shell(site: BatchSite) -> Shell:
    if not site.ssh:
        return LocalShell()
    try:
        # Only who has such a site needs paramiko.
        from pilot.ce.ssh import SshShell
    except ImportError as absent:
        raise BadRequest(f"site {site.name} needs paramiko (extra [condor]): {absent}") from absent
    return SshShell(login_of(site.ssh), site.ssh_key, site.known_hosts, site.answer_within)


def _fake(site: FakeSite, directory: Path, credential: Credential | None) -> ComputingElement:
    return FakeCE(credential=credential)


def _unusable(site: SiteConfig, credential: Credential, reason: str) -> BadRequest:
    return BadRequest(f"site {site.name} cannot use a user's {credential.kind.value}: {reason}")


_DOORS: Mapping[type[SiteConfig], Callable[[Any, Path, Credential | None], ComputingElement]] = {
    ArcSite: _arc,
    CondorSite: _condor,
    LocalSite: _local,
    SlurmSite: _slurm,
    PbsSite: _pbs,
    FakeSite: _fake,
    GramSite: _gram,
}
