"""The first process of the box, run by the box's own Python: its services, and its end.

    init.py DIRECTORY UID GID

DIRECTORY is what users of the box know /grid by, and UID and GID whose it becomes. The owner asks
over the socket ``control``: a line ``start NAME``, ``stop NAME`` or ``kill NAME``, answered by
``ok`` or by what is wrong. When standard input ends, whoever had the box made is gone, and so is
the box.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
GRID = Path("/grid")
LOGS = Path("/var/log/grid")
START_SECONDS = 60.0
STOP_SECONDS = 10.0

HOST = "/DC=org/DC=testgrid/O=hosts/CN=localhost"
PORTS = ("arc", "desktop", "gatekeeper", "ssh", "slurmctld", "slurmd")
# The users that come with VOMS attributes, by the role that these give.
ROLES = {"alice": "pilot", "bob": "NULL"}
VO = "testvo"

# Batch systems behind computing elements: a real one, and the desktop grid as one, which whoever
# has the box makes reachable in its directory ``shared``.
SLURM = """\
lrms = slurm main
slurm_wakeupperiod = 5
slurm_use_sacct = no
slurm_bin_path = /usr/bin"""


DESKTOP = "lrms = desktopgrid"
COUNTER = "/shared/bridge/routes/arex/counter"


class Broken(Exception):
    """A service does not come up; the text says what it said."""


@dataclass
class Service:
    """Daemons that run in the foreground, and how one sees that they serve."""

    daemons: Sequence[Sequence[str]]
    serves: Callable[[], bool]
    needs: tuple[str, ...] = ()
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)


def services(ports: dict[str, int]) -> dict[str, Service]:
    """What the box can run."""
    trusted = "/etc/grid-security"
    return {
        "munge": Service(
            [["runuser", "-u", "munge", "--", "munged", "--foreground"]],
            Path("/run/munge/munge.socket.2").exists,
        ),
        "slurm": Service(
            [["slurmctld", "-D"], ["slurmd", "-D", "-N", "grid"]],
            lambda: (
                said(["sinfo", "--noheader", "--format=%t"]).strip() in ("idle", "mix", "alloc")
            ),
            needs=("munge",),
        ),
        "ssh": Service([["/usr/sbin/sshd", "-D", "-e"]], lambda: answers(ports["ssh"])),
        "gram": Service(
            [
                [
                    *("globus-gatekeeper", "-f", "-p", str(ports["gatekeeper"])),
                    *("-logfile", f"{LOGS}/gatekeeper.log", "-pidfile", "/run/gatekeeper.pid"),
                    *("-grid_services", "/etc/grid-services"),
                    *("-gridmap", f"{trusted}/grid-mapfile"),
                    *("-x509_cert_dir", f"{trusted}/certificates"),
                    *("-x509_user_cert", f"{trusted}/hostcert.pem"),
                    *("-x509_user_key", f"{trusted}/hostkey.pem"),
                ]
            ],
            lambda: answers(ports["gatekeeper"]),
            needs=("slurm",),
        ),
        "arc": Service(arex("arc"), lambda: answers(ports["arc"]), needs=("slurm",)),
        "desktop": Service(arex("desktop"), lambda: answers(ports["desktop"])),
    }


def arex(name: str) -> list[list[str]]:
    """The two daemons of an ARC CE."""
    configured = ["env", f"ARC_CONFIG=/etc/{name}.conf"]
    return [
        [*configured, "/usr/share/arc/arc-arex-start", "-f"],
        [*configured, "/usr/share/arc/arc-arex-ws-start", "-f"],
    ]


class Services:
    """The services of the box, started and stopped one at a time."""

    def __init__(self, known: dict[str, Service]) -> None:
        self._known = known
        self._lock = threading.Lock()

    def obey(self, order: str) -> str:
        """What is answered to ``order``."""
        verb, _, name = order.strip().partition(" ")
        act = {"start": self._start, "stop": self._stop, "kill": self._kill}.get(verb)
        if act is None or name not in self._known:
            return f"say start, stop or kill, and one of {', '.join(self._known)}"
        try:
            with self._lock:
                act(name)
        except (Broken, OSError) as error:
            return str(error)
        return "ok"

    def _start(self, name: str) -> None:
        service = self._known[name]
        for other in service.needs:
            self._start(other)
        if service.running and all(daemon.poll() is None for daemon in service.running):
            return
        self._end(name, signal.SIGKILL)  # what is left of it
        log = LOGS / f"{name}.out"
        for command in service.daemons:
            with log.open("ab") as out:
                daemon = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                )
            service.running.append(daemon)
        deadline = time.monotonic() + START_SECONDS
        while not service.serves():
            gone = [daemon for daemon in service.running if daemon.poll() is not None]
            if gone or time.monotonic() > deadline:
                self._end(name, signal.SIGKILL)
                text = log.read_text(errors="replace").strip()[-2000:]
                raise Broken(f"{name} does not come up: {text}".replace("\n", " | "))
            time.sleep(0.05)

    def _stop(self, name: str) -> None:
        self._end(name, signal.SIGTERM)

    def _kill(self, name: str) -> None:
        self._end(name, signal.SIGKILL)

    def _end(self, name: str, how: signal.Signals) -> None:
        """End the daemons of a service, and what they started in their own sessions."""
        service = self._known[name]
        for daemon in service.running:
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, how)
        for daemon in service.running:
            try:
                daemon.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
        service.running.clear()


def said(command: Sequence[str]) -> str:
    """What ``command`` prints."""
    return subprocess.run(command, capture_output=True, text=True).stdout


def answers(port: int) -> bool:
    """Whether somebody listens on ``port`` of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports() -> dict[str, int]:
    """Ports that nobody uses, each other's neither."""
    with ExitStack() as stack:
        found = {}
        for name in PORTS:
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            found[name] = taken.getsockname()[1]
        return found


def configure(ports: dict[str, int]) -> None:
    """Write what the services read."""
    for account, path in {
        "munge": "/run/munge",
        "slurm": "/run/slurm",
        "root": "/run/sshd",
    }.items():
        own_directory(Path(path), account)
    own_directory(Path("/var/spool/slurmctld"), "slurm")
    own_directory(Path("/var/spool/slurmd"), "root")

    def write(template: str, path: str, **values: object) -> None:
        text = Template((HERE / "conf" / template).read_text()).substitute(ports, **values)
        Path(path).write_text(text)

    write("slurm.conf", "/etc/slurm/slurm.conf")
    write("cgroup.conf", "/etc/slurm/cgroup.conf")
    write("sshd_config", "/etc/ssh/sshd_config")
    write("grid-mapfile", "/etc/grid-security/grid-mapfile")
    for name, lrms in (("arc", SLURM), ("desktop", DESKTOP)):
        write("arc.conf", f"/etc/{name}.conf", name=name, port=ports[name], lrms=lrms)
        control = Path(f"/var/spool/arc/{name}/control")
        control.mkdir(parents=True)
        shutil.copy("/etc/dhparam.pem", control)
    backend = ("python3", "-B", "-m", "bridge.arex.backend")
    run(["env", "PYTHONPATH=/opt/glidebridge", *backend, "install", "--counter", COUNTER])
    for name, called, mode in (("pem", "hostcert", 0o644), ("key", "hostkey", 0o600)):
        installed = Path(f"/etc/grid-security/{called}.pem")
        shutil.copy(GRID / f"host.{name}", installed)
        installed.chmod(mode)


def own_directory(path: Path, account: str) -> None:
    """``path``, owned by ``account``."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.chown(path, account, account)


def make_keys(port: int) -> None:
    """The keys of sshd and of the user that it lets in."""
    home = GRID / "ssh"
    home.mkdir(mode=0o700)
    for path in ("/etc/ssh/grid_host_key", str(home / "key")):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "grid", "-f", path])
    shutil.copy(home / "key.pub", "/etc/ssh/authorized_keys")
    kind, public, _ = Path("/etc/ssh/grid_host_key.pub").read_text().split()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")


def make_attributes() -> None:
    """Proxies with VOMS attributes, as a VOMS server would sign them."""
    for user, role in ROLES.items():
        home = GRID / user
        run(
            [
                *("voms-proxy-fake", "-rfc", "-quiet", "-hours", "12", "-bits", "2048"),
                *("-cert", f"{home}/cert.pem", "-key", f"{home}/key.pem"),
                *("-hostcert", f"{GRID}/host.pem", "-hostkey", f"{GRID}/host.key"),
                *("-voms", VO, "-fqan", f"/{VO}/Role={role}/Capability=NULL"),
                *("-uri", "localhost:15000", "-out", f"{home}/voms.pem"),
            ]
        )


def run(command: Sequence[str]) -> None:
    """Run ``command``; raises Broken with what it said."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"{command[0]}: {done.stderr or done.stdout}")


def describe(directory: str, ports: dict[str, int], known: Sequence[str]) -> None:
    """Write grid.json: where everything is, as seen from outside."""

    def user(name: str) -> dict[str, str]:
        return {path.stem: f"{directory}/{name}/{path.name}" for path in (GRID / name).iterdir()}

    gram = f"localhost:{ports['gatekeeper']}"
    text = json.dumps(
        {
            "services": list(known),
            "arc": f"https://localhost:{ports['arc']}/arex",
            "desktop": f"https://localhost:{ports['desktop']}/arex",
            "shared": f"{directory}/shared",
            "gram": {name: f"{gram}/jobmanager-{name}:{HOST}" for name in ("fork", "slurm")},
            "ssh": {
                "host": "127.0.0.1",
                "port": ports["ssh"],
                "user": "alice",
                "key": f"{directory}/ssh/key",
                "known_hosts": f"{directory}/ssh/known_hosts",
            },
            "certificates": f"{directory}/certificates",
            "vomsdir": f"{directory}/vomsdir",
            "ca": {"cert": f"{directory}/ca.pem", "key": f"{directory}/ca.key"},
            "host": {"cert": f"{directory}/host.pem", "key": f"{directory}/host.key"},
            "users": {name: user(name) for name in ("alice", "bob", "carol", "mallory")},
            "logs": f"{directory}/logs",
        },
        indent=2,
    )
    (GRID / "grid.json").write_text(f"{text}\n")


def hand_over(uid: int, gid: int) -> None:
    """Give the directory away, but for the logs: root goes on writing there."""
    for path in (*GRID.glob("**/*"), GRID):
        if path != GRID / "logs":
            os.chown(path, uid, gid, follow_symlinks=False)


def supervise(directory: str, uid: int, gid: int) -> None:
    """Get ready, say so, and obey until standard input ends."""
    ports = free_ports()
    known = services(ports)
    configure(ports)
    make_keys(ports["ssh"])
    make_attributes()
    describe(directory, ports, list(known))
    obeying = Services(known)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(f"{obeying.obey(line.decode())}\n".encode())

    server = socketserver.ThreadingUnixStreamServer(str(GRID / "control"), Handler)
    os.chmod(GRID / "control", 0o600)
    hand_over(uid, gid)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("READY", flush=True)
    while os.read(sys.stdin.fileno(), 1):
        pass


def main() -> None:
    """Be the first process, which buries orphans, and end with the one that does the work."""
    supervisor = os.fork()
    if supervisor == 0:
        try:
            supervise(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        except (Broken, OSError) as error:
            print(f"FAILED {error}".replace("\n", " | "), flush=True)
        os._exit(0)
    while os.wait()[0] != supervisor:
        pass


if __name__ == "__main__":
    main()
