"""`xwworker`, and what `pilot.pyz` runs: the command line of the worker.

Exit codes: 0 it left as it should (drained, idle, told to go, its time over); 1 it could not do
what was asked (directory in use, not to be written ...); 2 the command line or a file that it names
is wrong; 3 the grid refused this worker; 4 a pilot left without ever having reached a server.
"""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import pwd
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from desktopgrid.link.identity import Identity
from desktopgrid.link.session import Link
from desktopgrid.model import account
from desktopgrid.model.errors import ConfigurationError, GridError
from desktopgrid.model.version import VERSION
from desktopgrid.wire import messages as m
from pilot.node import config, facts, processes
from pilot.node.agent import REFUSED, Agent, Host
from pilot.node.config import NodeConfig
from pilot.node.enrolment import Enrolment
from pilot.node.fetching import Fetchers
from pilot.node.slots import Capacity
from pilot.node.storage import WorkerDirectory, owner_of
from pilot.node.worker import Policy

logger = logging.getLogger(__name__)

PROGRAM = "xwworker"
SOFTWARE = f"glidebridge {VERSION}"
FAILED, WRONG = 1, 2
STOP_PATIENCE = 30.0
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LOG_BYTES = 10 << 20
TOKEN = "token"  # noqa: S105 - the name of a file
"""Where a worker that logged in keeps what it got for its password."""
LOGIN_LIFETIME = 365 * 86_400


class WrongCommand(GridError):
    """The command line lacks something."""


@dataclass(frozen=True)
class Settings:
    """Everything that a worker is told, command line and file together."""

    identity: Path
    directory: Path
    config: NodeConfig
    file: Optional[Path] = None
    is_pilot: bool = False
    kind: str = ""
    lifetime: float | None = None
    idle_time: float | None = None
    grace: float = 10.0
    slots: int = 0
    memory_mib: int = 0
    disk_mib: int = 0


Command = Callable[[Settings], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """`xwworker`."""
    parser = argparse.ArgumentParser(
        prog="xwworker",
        description="Run works of a desktop grid on this host.",
        epilog="Exit codes: 0 left as it should, 1 could not, 2 wrong command line or file,"
        " 3 refused by the grid.",
    )
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, purpose in (
        ("console", "work in the foreground until told to go"),
        ("start", "work in the background"),
        ("stop", "give back the tasks that run and leave"),
        ("restart", "stop, then start"),
        ("status", "say whether a worker runs"),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        _add_common(command, is_again=True)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        # So the XWHEP manual starts a worker without its script (7.2.2).
        if parsed.config is None:
            parser.error("the following arguments are required: COMMAND")
        parsed.command = "console"
    return _run(_COMMANDS, parsed, is_pilot=False)


def pilot_main(arguments: Sequence[str] | None = None) -> int:
    """What `pilot.pyz` runs: a worker in a batch job."""
    parser = argparse.ArgumentParser(
        prog="pilot.pyz",
        description="Run works of a desktop grid inside a batch job.",
        epilog="Exit codes: 0 left as it should, 1 could not, 2 wrong command line or file,"
        " 3 refused by the grid, 4 no server was ever reached.",
    )
    _add_common(parser)
    parser.add_argument("--lifetime", type=_seconds, help="seconds until the batch job is ended")
    parser.add_argument(
        "--idle", type=_seconds, default=300.0, help="leave after so many seconds without a task"
    )
    parser.add_argument(
        "--grace", type=_seconds, default=10.0, help="seconds between SIGTERM and SIGKILL"
    )
    parser.add_argument(
        "--memory", type=_count, default=0, metavar="MIB", help="memory that is its own"
    )
    parser.add_argument(
        "--disk", type=_count, default=0, metavar="MIB", help="disk space that is its own"
    )
    parser.add_argument(
        "--kind", default="", help="how this host is called: htcondor, slurm, local ..."
    )
    parsed = parser.parse_args(arguments)
    parsed.command = "pilot"
    return _run({"pilot": _console}, parsed, is_pilot=True)


def _add_common(parser: argparse.ArgumentParser, is_again: bool = False) -> None:
    """The options of every command; ``is_again``: they may stand before the command as well."""

    def add(*names: str, **more: Any) -> None:
        parser.add_argument(*names, **{**more, "default": argparse.SUPPRESS} if is_again else more)

    add("--identity", type=Path, metavar="FILE", help="who this worker is to the grid")
    add("--dir", type=Path, metavar="DIR", help="where it keeps its things")
    add("--slots", type=_count, default=0, metavar="N", help="tasks of one core at a time")
    add(
        *("--config", "--xwconfig"),
        type=Path,
        metavar="FILE",
        help="a configuration file, as in conf/worker.conf or in the XWHEP manual; alone, without a"
        " command, it means console",
    )


def _count(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _run(commands: Mapping[str, Command], parsed: argparse.Namespace, is_pilot: bool) -> int:
    try:
        settings = _settings(parsed, is_pilot)
        return commands[parsed.command](settings)
    except GridError as error:
        return _report(error, "pilot" if is_pilot else PROGRAM)


def _report(error: GridError, program: str) -> int:
    print(f"{program}: {error}", file=sys.stderr)
    return WRONG if isinstance(error, (ConfigurationError, WrongCommand)) else FAILED


def _settings(parsed: argparse.Namespace, is_pilot: bool) -> Settings:
    file = parsed.config or (None if is_pilot else config.place(os.environ))
    node = _configured(file) if file else NodeConfig()
    worker = node.worker
    identity = parsed.identity or worker.identity
    directory = parsed.dir or (_scratch() if is_pilot else worker.directory.expanduser())
    idle = worker.idle_time.total_seconds()
    return Settings(
        identity=identity,
        directory=directory.absolute(),
        config=node,
        file=file,
        is_pilot=is_pilot,
        kind=getattr(parsed, "kind", ""),
        lifetime=getattr(parsed, "lifetime", None),
        idle_time=getattr(parsed, "idle", idle) or None,
        grace=getattr(parsed, "grace", worker.grace.total_seconds()),
        slots=parsed.slots or worker.slots,
        memory_mib=getattr(parsed, "memory", worker.memory_mib),
        disk_mib=getattr(parsed, "disk", worker.disk_mib),
    )


def _configured(file: Path) -> NodeConfig:
    """What ``file`` says, read as the user who works: root becomes the one that it names (XWHEP
    manual, 7.2.2).
    """
    node = config.read(file)
    whom = account.whom_to_be(node.worker.user, "worker", str(file), os.geteuid(), _account_of)
    if whom is None:
        return node
    account.become(whom, os)
    # `~` is another place now, and a password in the file must be this user's to read.
    return config.read(file)


def _account_of(name: str) -> account.Account:
    return account.Account.of(pwd.getpwnam(name))


def _scratch() -> Path:
    """A pilot's directory: the batch job's own, which goes with the job."""
    return Path(os.environ.get("_CONDOR_SCRATCH_DIR") or os.getcwd()) / "glidebridge-pilot"


def _console(settings: Settings) -> int:
    _log_to(logging.StreamHandler(sys.stderr), settings)
    return _work(_make(settings), settings)


def _start(settings: Settings) -> int:
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as pipe:
            is_ready = pipe.read() == "ready"
        if not is_ready:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(f"The worker runs in {settings.directory}, process {child}.")
        return 0
    os.close(read)
    os.setsid()
    code = FAILED
    try:
        agent = _make(settings)
        _log_to(_log_file(settings), settings)
        os.write(write, b"ready")
        os.close(write)
        code = _work(agent, settings)
    except GridError as error:
        code = _report(error, PROGRAM)
    finally:
        logging.shutdown()
        os._exit(code)


def _log_file(settings: Settings) -> logging.Handler:
    path = settings.directory / "worker.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=2)
    with open(os.devnull, "rb") as nothing, open(path, "ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return handler


def _stop(settings: Settings) -> int:
    pid = owner_of(settings.directory)
    if pid is None:
        print(f"No worker runs in {settings.directory}.")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + settings.grace + STOP_PATIENCE
    while owner_of(settings.directory) == pid:
        if time.monotonic() > deadline:
            print(
                f"{PROGRAM}: process {pid} has been told to go and is still there", file=sys.stderr
            )
            return FAILED
        time.sleep(0.05)
    print(f"The worker in {settings.directory} has stopped.")
    return 0


def _restart(settings: Settings) -> int:
    return _stop(settings) or _start(settings)


def _status(settings: Settings) -> int:
    pid = owner_of(settings.directory)
    if pid is None:
        print(f"No worker runs in {settings.directory}.")
        return FAILED
    print(f"A worker runs in {settings.directory}, process {pid}.")
    return 0


_COMMANDS: Mapping[str, Command] = {
    "console": _console,
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "status": _status,
}


def _make(settings: Settings) -> Agent:
    """The worker that ``settings`` describe, connected to nothing yet; raises GridError."""
    identity = _identity_in_file(settings)
    directory = WorkerDirectory(settings.directory)
    if identity is None:
        identity = _identity_by_login(settings)
    orphans = processes.Orphans() if processes.adopt_orphans() else None
    agent = Agent(directory, _host(settings), orphans)
    enrolment = Enrolment(identity, settings.identity) if settings.is_pilot else None

    def on_open(welcome: m.Welcome) -> None:
        if enrolment is not None:
            try:
                link.identity = enrolment.complete()
            except OSError as error:
                agent.stop(f"{settings.identity} cannot be removed: {error.strerror}")
        agent.on_open(welcome)

    link = Link(
        identity,
        on_message=agent.on_message,
        on_open=on_open,
        on_down=agent.on_down,
        on_end=agent.on_end,
        hello=lambda: {**agent.hello(), **(enrolment.fields() if enrolment else {})},
        software=SOFTWARE,
        datagrams=settings.config.worker.datagrams,
    )
    known_as = f"{'Pilot' if settings.is_pilot else 'Worker'} {identity.identity}"
    agent.attach(link, known_as)
    return agent


def _identity_in_file(settings: Settings) -> Optional[Identity]:
    """The identity file's, with what the configuration says of the grid; None where a login stands
    for it.
    """
    grid, file = settings.config.grid, settings.file
    if settings.identity == Path():
        if file is None or not grid.login:
            other = "" if settings.is_pilot else " (or login and password in a configuration file)"
            raise WrongCommand(
                f"--identity FILE is missing: who is this worker to the grid?{other}"
            )
        return None
    identity = Identity.read(settings.identity.expanduser())
    expected = "pilot" if settings.is_pilot else "worker"
    if identity.kind != expected:
        message = f"is the identity of a {identity.kind}, not of a {expected}"
        raise ConfigurationError(str(settings.identity), 1, message)
    return grid.applied_to(identity, file) if file else identity


def _identity_by_login(settings: Settings) -> Identity:
    assert settings.file is not None  # noqa: S101 (tells the type checker)
    kept = settings.directory / TOKEN
    return settings.config.grid.identity("worker", settings.file, kept, LOGIN_LIFETIME)


def _host(settings: Settings) -> Host:
    worker = settings.config.worker
    share = facts.share_of_host(settings.directory)
    lifetime = settings.lifetime
    if settings.is_pilot:
        ad = facts.machine_ad(os.environ)
        share = facts.share_of_slot(ad, share)
        lifetime = facts.lifetime_of_slot(ad, lifetime)
    share = facts.Share(
        settings.slots or share.cores,
        settings.memory_mib or share.memory_mib,
        settings.disk_mib or share.disk_mib,
    )
    kind = settings.kind or facts.kind_of_host(os.environ, settings.is_pilot)
    attributes = {key: facts.value_of(text) for key, text in settings.config.attributes.items()}
    return Host(
        facts=facts.facts_of_host(share, kind, VERSION, attributes, worker.name),
        capacity=Capacity(share.cores, share.memory_mib),
        policy=Policy(
            grace=settings.grace,
            idle_time=settings.idle_time,
            lifetime=lifetime,
            max_tasks=worker.max_tasks or None,
        ),
        cache_limit=worker.cache_mib << 20,
        fetchers=Fetchers(settings.config.fetchers, worker.fetch_private),
        launcher=config.words_of(worker.launcher),
    )


def _work(agent: Agent, settings: Settings) -> int:
    os.umask(0o077)
    for note in settings.config.notes:
        logger.warning("%s", note)
    if os.geteuid() == 0 and not settings.is_pilot:
        logger.warning("Tasks run as root here; [worker] user names who shall run them instead")
    processes.keep_descriptors()
    # A crashed task leaves no core file: it would come back as an output.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    agent.hear_signals()
    agent.prepare()
    code = agent.run()
    if code == REFUSED:
        # Who logged in by a password does so again.
        (settings.directory / TOKEN).unlink(missing_ok=True)
    return code


def _log_to(handler: logging.Handler, settings: Settings) -> None:
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(settings.config.worker.log_level.name)


if __name__ == "__main__":
    sys.exit(main())
