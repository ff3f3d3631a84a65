"""Debian's packages without root: apt-get with a state directory of its own, dpkg-deb to unpack.

Of the host it needs apt's configuration: mirror, proxy and keys. It changes nothing there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cache import Unavailable

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
HOST_STATUS = Path("/var/lib/dpkg/status")


class PrivateApt:
    """An apt-get that keeps its lists and archives under ``directory``, for any user.

    With ``suite`` it knows only that suite of the host's Debian mirror, and believes that no
    package is installed, so that it resolves a full closure. Without, it uses the host's sources
    and knows what is installed.
    """

    def __init__(self, directory: Path, suite: str = "") -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise Unavailable("apt-get and dpkg-deb are not here: this is no Debian system")
        self.archives = directory / "debs"
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (directory / part).mkdir(parents=True)
        options = {
            "Dir::State": directory,
            "Dir::State::status": HOST_STATUS,
            "Dir::Cache": directory / "cache",
            "Dir::Log": directory,
            "Acquire::Languages": "none",
            "Acquire::Retries": "1",
            "Acquire::http::Timeout": "20",
            "Acquire::https::Timeout": "20",
            # apt would drop to its own account, which cannot write here; the host's hooks need root
            "APT::Sandbox::User": "",
            "APT::Update::Post-Invoke": "",
            "APT::Update::Post-Invoke-Success": "",
            "APT::Install-Recommends": "false",
            # without it an unreachable mirror is a warning and exit code 0
            "APT::Update::Error-Mode": "any",
            "Debug::NoLocking": "1",
        }
        if suite:
            sources, status = directory / "sources.list", directory / "status"
            sources.write_text(f"deb [signed-by={KEYRING}] {host_mirror()} {suite} main\n")
            status.touch()
            options |= {
                "Dir::State::status": status,
                "Dir::Etc::sourcelist": sources,
                "Dir::Etc::sourceparts": "/dev/null",
                "Dir::Etc::preferences": "/dev/null",
                "Dir::Etc::preferencesparts": "/dev/null",
            }
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        self._command = ["apt-get", "-qq", *settings]

    def update(self) -> None:
        """Fetch the package index; raises Unavailable if the mirror cannot be reached."""
        self._run("update")

    def closure(self, packages: Sequence[str]) -> list[str]:
        """Everything that ``packages`` depend on, and themselves."""
        listed = self._run("install", "-y", "--print-uris", *packages)
        return sorted({line[1] for line in re.finditer(r"^'[^']+' ([^_]+)_", listed, re.M)})

    def fetch(self, packages: Sequence[str]) -> list[Path]:
        """Download ``packages``; their archives, with what was downloaded before."""
        self._run("download", *packages)
        return sorted(self.archives.glob("*.deb"))

    def unpack(self, packages: Sequence[str], into: Path) -> int:
        """Download ``packages``, unpack them, and return the bytes that were downloaded."""
        archives = self.fetch(packages)
        for archive in archives:
            subprocess.run(["dpkg-deb", "--extract", archive, into], check=True)
        return sum(archive.stat().st_size for archive in archives)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], cwd=self.archives, capture_output=True, text=True
        )
        if done.returncode:
            reasons = re.findall(r"^E: (.*)", done.stderr, re.M)
            reason = reasons[0].strip() if reasons else f"exit code {done.returncode}"
            raise Unavailable(f"apt-get {arguments[0]}: {reason}")
        return done.stdout


def host_mirror() -> str:
    """The Debian mirror that the host's apt is configured for; asks no network."""
    release = Path("/etc/os-release")
    codename = re.search(r"^VERSION_CODENAME=\"?(\w+)", release.read_text(), re.M)
    suites = "|".join([codename[1] if codename else "stable", "stable", "oldstable", "testing"])
    # apt-get itself reads all forms of its sources; what it would fetch names the mirrors
    planned = subprocess.run(
        ["apt-get", "update", "--print-uris"], capture_output=True, text=True
    ).stdout
    mirrors = re.findall(rf"^'(\S+)/dists/(?:{suites})/main/binary-", planned, re.M)
    if not mirrors:
        raise Unavailable("apt is not configured for a Debian mirror")
    # others use Debian's suite names too; Debian's own mirrors have it in their address
    best: str = min(mirrors, key=lambda mirror: "debian" not in mirror)
    return best
