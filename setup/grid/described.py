"""The box of the grid for those who use it: what is where in it, and how to start and kill it.

``GLIDEBRIDGE_GRID`` names its directory (box.py). A service in it runs from when somebody first
asks for it. By hand, `python3 -B setup/run.py --with grid bash`, and there

    python -m setup.grid.described start arc      # or stop, kill; munge, slurm, ssh, gram, desktop
    python -m setup.grid.described                # what is where
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    """What a user of the grid has, by file."""

    cert: Path
    key: Path
    proxy: Path
    """Made from the certificate; all may be done with it."""
    second: Path
    """Made from the proxy."""
    limited: Path
    expired: Path
    voms: Path | None = None
    """A proxy with attributes of testvo: Alice is in its role ``pilot``."""


@dataclass(frozen=True)
class SshDoor:
    """Where sshd is, and what lets one in."""

    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path


@dataclass(frozen=True)
class GridBox:
    """A grid of one machine. Alice and Bob may use it, Carol is a member without an account, and
    Mallory's CA is unknown to it.
    """

    directory: Path
    arc: str
    """The URL of its ARC CE, which has Slurm behind it."""
    desktop: str
    """The URL of another one, which has the desktop grid behind it to which the route ``arex`` of
    the bridge in ``shared``/bridge leads.
    """
    shared: Path
    """A directory that accounts in the box see as /shared."""
    gram: Mapping[str, str]
    """The contacts of its GRAM gatekeeper: fork and slurm."""
    ssh: SshDoor
    certificates: Path
    """The directory of CAs that the box itself reads: what is written here counts there."""
    vomsdir: Path
    ca_cert: Path
    ca_key: Path
    host_cert: Path
    host_key: Path
    users: Mapping[str, User]
    logs: Path

    @classmethod
    def read(cls, directory: Path) -> GridBox:
        """What the description in ``directory`` says."""
        found = json.loads((directory / "grid.json").read_text())
        ssh, ca, host = found["ssh"], found["ca"], found["host"]
        return cls(
            directory,
            arc=found["arc"],
            desktop=found["desktop"],
            shared=Path(found["shared"]),
            gram=found["gram"],
            ssh=SshDoor(
                ssh["host"], ssh["port"], ssh["user"], Path(ssh["key"]), Path(ssh["known_hosts"])
            ),
            certificates=Path(found["certificates"]),
            vomsdir=Path(found["vomsdir"]),
            ca_cert=Path(ca["cert"]),
            ca_key=Path(ca["key"]),
            host_cert=Path(host["cert"]),
            host_key=Path(host["key"]),
            users={
                name: User(**{kind: Path(path) for kind, path in files.items()})
                for name, files in found["users"].items()
            },
            logs=Path(found["logs"]),
        )

    def start(self, service: str) -> None:
        """Have ``service`` (munge, slurm, ssh, gram, arc or desktop) serve, and what it needs."""
        self._order(f"start {service}")

    def stop(self, service: str) -> None:
        """End it as an administrator does."""
        self._order(f"stop {service}")

    def kill(self, service: str) -> None:
        """End it as a power cut does."""
        self._order(f"kill {service}")

    def _order(self, order: str) -> None:
        # A socket's path has 107 bytes at most; that of its directory's descriptor is short.
        directory = os.open(self.directory, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(120)
                control.connect(f"/proc/self/fd/{directory}/control")
                control.sendall(f"{order}\n".encode())
                answer = control.makefile().readline().strip()
        finally:
            os.close(directory)
        if answer != "ok":
            raise RuntimeError(f"{order}: {answer or 'the box is gone'}")

    def environment(self, user: str, credential: str = "proxy") -> dict[str, str]:
        """What makes a client of the grid act for ``user``."""
        proxy = getattr(self.users[user], credential)
        return {
            "X509_USER_PROXY": str(proxy),
            "X509_CERT_DIR": str(self.certificates),
            "X509_VOMS_DIR": str(self.vomsdir),
            "GLOBUS_HOSTNAME": "localhost",
        }


if __name__ == "__main__":
    box = GridBox.read(Path(os.environ["GLIDEBRIDGE_GRID"]))
    if not sys.argv[1:]:
        print((box.directory / "grid.json").read_text(), end="")
    else:
        verb, *services = sys.argv[1:]
        for each in services:
            {"start": box.start, "stop": box.stop, "kill": box.kill}[verb](each)
