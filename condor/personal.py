"""A real HTCondor pool of one machine, on the loopback, run by whoever asks: for tests and demos.

    with LoopbackPool(prefix, directory, cores=2) as pool:
        ... pool.schedd_address, pool.token("alice"), pool.environment("alice")

``prefix`` is a directory that holds HTCondor (``usr/sbin/condor_master``), ``directory`` holds
everything the pool writes. All ports are chosen by the system, so any number of pools can run side
by side. HTCondor will not run jobs as root: started by root, the daemons run as an unprivileged
account. Whoever talks to the pool does it with an IDTOKEN; the identity needs no account.

``python -m condor.personal start|stop|status DIR --prefix PREFIX`` does the same by hand.
"""

import argparse
import contextlib
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from condor.errors import CondorError, PoolNotStarted
from condor.personal_configuration import CONFIGURATION
from condor.tokens import SIGNING_KEY, mint

DOMAIN = "glidebridge.pool"
"""Trust domain and UID domain of every loopback pool: ``alice`` is ``alice@glidebridge.pool``."""

START_SECONDS = 60.0
STOP_SECONDS = 20.0
UNPRIVILEGED_ACCOUNT = "nobody"
TOKEN_LIFETIME = timedelta(days=1)

# A unix socket's path has 107 bytes at most; the daemons append names of up to 40.
LONGEST_SOCKET_DIRECTORY = 64

PUBLIC_DIRECTORIES = ("log", "spool", "lock", "run", "execute", "etc")
SECRET_DIRECTORIES = ("passwords.d", "tokens.d", "user_tokens.d", "credentials", "identities")


class LoopbackPool:
    """A real HTCondor pool in a directory. A context manager: up inside, gone after."""

    def __init__(
        self,
        prefix: Path | str,
        directory: Path | str,
        cores: int = 2,
        memory_mib: int = 2048,
        **settings: str | int,
    ) -> None:
        """Nothing is touched before ``start``; ``settings`` are HTCondor's own, and come last."""
        self.prefix, self.directory = Path(prefix).absolute(), Path(directory).absolute()
        self.cores, self.memory_mib = cores, memory_mib
        self._settings = settings
        self._account = _account_of_the_daemons()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "up" if self.is_running() else "down"
        return f"<HTCondor pool in {self.directory}, {self.cores} cores, {state}>"

    # What others need to talk to it

    @property
    def collector_address(self) -> str:
        """Where the collector listens, as HTCondor writes addresses."""
        return self._first_line("log/.collector_address")

    @property
    def schedd_address(self) -> str:
        """Where the schedd listens."""
        return self._first_line("log/.schedd_address")

    @property
    def startd_address(self) -> str:
        """Where the startd listens."""
        return self._first_line("log/.startd_address")

    @property
    def configuration(self) -> Path:
        """The pool's configuration file, for ``CONDOR_CONFIG``."""
        return self.directory / "condor_config"

    def token(self, identity: str, lifetime: timedelta = TOKEN_LIFETIME) -> str:
        """A token for ``identity``, a bare name or ``name@domain``; no account is needed."""
        key = (self.directory / "passwords.d" / SIGNING_KEY).read_bytes()
        return mint(key, _in_domain(identity), DOMAIN, datetime.now(UTC), lifetime)

    def token_directory(self, identity: str) -> Path:
        """A directory (0700) that holds one token of ``identity`` (0600), for a client."""
        directory = self.directory / "identities" / _in_domain(identity)
        directory.mkdir(mode=0o700, exist_ok=True)
        _write_secret(directory / "token", self.token(identity).encode())
        return directory

    def environment(self, identity: str = "condor") -> dict[str, str]:
        """The variables with which HTCondor's tools and bindings act as ``identity`` here."""
        return {
            "CONDOR_CONFIG": str(self.configuration),
            "PATH": f"{self.prefix}/usr/bin:{self.prefix}/usr/sbin:/usr/local/bin:/usr/bin:/bin",
            "_CONDOR_SEC_TOKEN_DIRECTORY": str(self.token_directory(identity)),
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
        }

    def tool(self, *command: str, identity: str = "condor") -> str:
        """What one of HTCondor's commands prints, run as ``identity``; raises CondorError."""
        try:
            done = subprocess.run(
                command,
                env=self.environment(identity),
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as slow:
            raise CondorError(f"{shlex.join(command)} did not end: {slow}") from slow
        if done.returncode != 0:
            raise CondorError(f"{shlex.join(command)} failed: {done.stderr.strip()}")
        return done.stdout

    # Its life

    def start(self) -> None:
        """Bring the pool up and wait until its slots can be matched; raises PoolNotStarted."""
        master = self.prefix / "usr/sbin/condor_master"
        if not master.exists():
            raise PoolNotStarted(str(self.directory), f"there is no {master}")
        if self.is_running():
            raise PoolNotStarted(str(self.directory), "it is running already")
        self._lay_out()
        is_root = os.geteuid() == 0
        with (self.directory / "master.out").open("ab") as output:
            # HTCondor's daemons never leave the session of their master unless they run jobs.
            self._process = subprocess.Popen(
                [master, "-f"],
                env={"CONDOR_CONFIG": str(self.configuration), "PATH": "/usr/bin:/bin"},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._account.pw_uid if is_root else None,
                group=self._account.pw_gid if is_root else None,
                extra_groups=[] if is_root else None,
            )
        pid = self._process.pid
        (self.directory / "master.pid").write_text(f"{pid} {_started_at(pid)}\n")
        try:
            self._wait_until_ready(time.monotonic() + START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Take the pool down, jobs included, within ``STOP_SECONDS``; nothing is left running."""
        self._end(signal.SIGQUIT)  # HTCondor's fast shutdown

    def kill(self) -> None:
        """Take everything down at once, jobs included, as a power cut does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        pid = self._master()
        if pid is None:
            return
        family = {member: _started_at(member) for member in [pid, *_descendants(pid)]}
        asked = family if how is signal.SIGKILL else {pid: family[pid]}
        _send(how, asked)
        if not self._wait_until_gone(asked):
            _send(signal.SIGKILL, family)
            self._wait_until_gone(family)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        (self.directory / "master.pid").unlink(missing_ok=True)
        sockets = self.directory / "sockets"
        if sockets.is_symlink():
            shutil.rmtree(sockets.resolve(), ignore_errors=True)
            sockets.unlink()

    def is_running(self) -> bool:
        """Whether the pool's master lives, whoever started it."""
        return self._master() is not None

    def _lay_out(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in (*PUBLIC_DIRECTORIES, *SECRET_DIRECTORIES):
            (self.directory / name).mkdir(exist_ok=True)
        for name in SECRET_DIRECTORIES:
            (self.directory / name).chmod(0o700)
        for stale in (self.directory / "log").glob(".*_address"):
            stale.unlink()
        key = self.directory / "passwords.d" / SIGNING_KEY
        if not key.exists():
            _write_secret(key, secrets.token_bytes(64))
        sockets = self._socket_directory()
        self.configuration.write_text(self._configuration_text(sockets))
        if os.geteuid() == 0:
            for path in [self.directory, sockets, *self.directory.glob("*"), key]:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
            # Clients keep their tokens to themselves: HTCondor wants them owned by the reader.
            os.chown(self.directory / "identities", 0, 0)

    def _socket_directory(self) -> Path:
        sockets = self.directory / "sockets"
        if sockets.is_symlink():  # left by a pool that was not stopped
            shutil.rmtree(sockets.resolve(), ignore_errors=True)
            sockets.unlink()
        if len(os.fsencode(sockets)) > LONGEST_SOCKET_DIRECTORY:
            sockets.symlink_to(tempfile.mkdtemp(prefix="glidebridge-"))
            return sockets.resolve()
        sockets.mkdir(exist_ok=True)
        return sockets

    def _configuration_text(self, sockets: Path) -> str:
        text = CONFIGURATION.format(
            prefix=self.prefix,
            directory=self.directory,
            sockets=sockets,
            domain=DOMAIN,
            uid=self._account.pw_uid,
            gid=self._account.pw_gid,
            account=self._account.pw_name,
            key=SIGNING_KEY,
            cores=self.cores,
            memory_mib=self.memory_mib,
        )
        return text + "".join(f"{name} = {value}\n" for name, value in self._settings.items())

    def _wait_until_ready(self, deadline: float) -> None:
        wanted = {"Negotiator", "Scheduler"}
        seen: set[str] = set()
        while time.monotonic() < deadline:
            if not self.is_running():
                output = (self.directory / "master.out").read_text(errors="replace")
                raise PoolNotStarted(str(self.directory), f"its master ended: {output[-2000:]}")
            with contextlib.suppress(CondorError, OSError):
                command = [f"{self.prefix}/usr/bin/condor_status", "-any", "-af", "MyType"]
                seen = set(self.tool(*command).split())
                # A slot's type is Machine up to 23.x and Slot from 24.x on.
                if wanted <= seen and seen & {"Machine", "Slot"}:
                    return
            time.sleep(0.1)
        raise PoolNotStarted(
            str(self.directory), f"after {START_SECONDS:.0f} s it shows {sorted(seen)} only"
        )

    def _wait_until_gone(self, processes: Mapping[int, str | None]) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            self._reap()
            if not any(when and _started_at(pid) == when for pid, when in processes.items()):
                return True
            time.sleep(0.02)
        return False

    def _master(self) -> int | None:
        try:
            pid, started_at = (self.directory / "master.pid").read_text().split()
        except (OSError, ValueError):
            return None
        self._reap()
        return int(pid) if _started_at(int(pid)) == started_at else None

    def _reap(self) -> None:
        if self._process is not None:
            self._process.poll()  # or a dead master stays there as a zombie

    def _first_line(self, name: str) -> str:
        try:
            return (self.directory / name).read_text().splitlines()[0]
        except (OSError, IndexError) as absent:
            raise CondorError(f"{self!r} has no {name}") from absent


def _account_of_the_daemons() -> pwd.struct_passwd:
    if os.geteuid() == 0:
        return pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    return pwd.getpwuid(os.geteuid())


def _in_domain(identity: str) -> str:
    return identity if "@" in identity else f"{identity}@{DOMAIN}"


def _write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # an older file keeps its mode when it is opened
        file.write(content)


def _started_at(pid: int) -> str | None:
    """When a living process started, which tells it from a later one of the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started_at = fields[0], fields[19]
    return None if state in "ZX" else started_at


def _send(what: signal.Signals, processes: Mapping[int, str | None]) -> None:
    """A signal to those of ``processes`` that are still the same ones."""
    for pid, started_at in processes.items():
        if started_at is not None and _started_at(pid) == started_at:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 done, 1 refused, 2 a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m condor.personal", description="A real HTCondor pool on the loopback."
    )
    parser.add_argument("what", choices=("start", "stop", "status"))
    parser.add_argument("directory", type=Path, help="where the pool keeps all it writes")
    parser.add_argument("--prefix", type=Path, required=True, help="where HTCondor is installed")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    chosen = parser.parse_args(arguments)
    settings = dict(setting.split("=", 1) for setting in chosen.set if "=" in setting)
    if len(settings) != len(chosen.set):
        parser.error("--set takes NAME=VALUE")
    pool = LoopbackPool(chosen.prefix, chosen.directory, chosen.cores, chosen.memory, **settings)
    try:
        return _COMMANDS[chosen.what](pool)
    except CondorError as error:
        print(error, file=sys.stderr)
        return 1


def _start(pool: LoopbackPool) -> int:
    if not pool.is_running():
        pool.start()
    return _status(pool)


def _stop(pool: LoopbackPool) -> int:
    pool.stop()
    print(f"The pool in {pool.directory} is down.")
    return 0


def _status(pool: LoopbackPool) -> int:
    if not pool.is_running():
        print(f"The pool in {pool.directory} is down.")
        return 1
    print(f"The pool in {pool.directory} is up. To talk to it:")
    # HTCondor lets nobody own jobs as root, whoever says so.
    account = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() != 0 else "operator"
    for name, value in pool.environment(account).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


_COMMANDS = {"start": _start, "stop": _stop, "status": _status}

if __name__ == "__main__":
    sys.exit(main())
