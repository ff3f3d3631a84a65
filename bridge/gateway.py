"""A gateway into an HTCondor pool: a startd of ours whose jobs are carried to a grid.

It joins the pool like any other, with as many cores as jobs may be away at a time. HTCondor's
starter stages a job's sandbox; what it then executes instead of the job is our carrier. So the
schedd, its shadows and its event log see an ordinary job on an ordinary slot.

No user's code runs here. What a starter would execute by itself, past the carrier, is turned away
by START: other universes, commands before and after a job, a job's own transfer plugins.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bridge import carrier
from bridge.config import CondorRoute
from bridge.processes import Child
from condor import ads
from condor.errors import AdSyntaxError
from condor.tokens import SIGNING_KEY, mint
from desktopgrid.model.errors import BadRequest, UnknownObject

HELD = "held"
LONGEST_REASON = 500
PUBLIC = ("log", "execute", "lock", "run", "spool")
SECRET = ("tokens.d", "passwords.d")
NEVER = (
    "TARGET.JobUniverse =?= 5",
    "TARGET.WantDocker =!= true",
    "TARGET.WantContainer =!= true",
    "TARGET.PreCmd =?= undefined",
    "TARGET.PostCmd =?= undefined",
    "TARGET.PreCommand =?= undefined",
    "TARGET.PostCommand =?= undefined",
    "TARGET.TransferPlugins =?= undefined",
    "TARGET.ToolDaemonCmd =?= undefined",
    "TARGET.HookKeyword =?= undefined",
    # A pilot, or a job that a bridge sent there: it would come back for ever.
    "TARGET.GlidebridgeStamp =?= undefined",
)
"""What each job must satisfy, whatever a route says."""

CONFIGURATION = """\
# Written by the bridge for [route {name}]; `settings` of the route name a file of your own.
RELEASE_DIR = {prefix}/usr
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_DIR = {directory}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
PROCD_ADDRESS = $(RUN)/procd_pipe
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
CONDOR_IDS = {uid}.{gid}

DAEMON_LIST = MASTER, STARTD
COLLECTOR_HOST = {pool}
CONDOR_HOST = {pool}
USE_SHARED_PORT = False
STARTD_NAME = glidebridge-{name}

# Who we are to the pool: the one token. Startd and starters know each other by a key of their own.
TRUST_DOMAIN = {domain}
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/passwords.d/{key}
ALLOW_DAEMON = $(ALLOW_DAEMON) condor@{domain}
# A 23.x startd that has one never falls back to the pool's.
SEC_USE_FAMILY_SESSION = False

# Slots without a machine behind them.
NUM_CPUS = {slots}
MEMORY = {memory_mib}
use FEATURE: PartitionableSlot
IsGlidebridge = True
GlidebridgeRoute = "{name}"
STARTD_ATTRS = $(STARTD_ATTRS) IsGlidebridge GlidebridgeRoute
START = {start}
USER_JOB_WRAPPER = {wrapper}
# A job that comes to nothing on the grid is held: what the bridge says of it is read every moment.
STARTD_CRON_JOBLIST = HELD
STARTD_CRON_HELD_EXECUTABLE = /bin/cat
STARTD_CRON_HELD_ARGS = {held}
STARTD_CRON_HELD_PERIOD = 3
POLLING_INTERVAL = 2
IS_HELD = stringListMember(TARGET.GlobalJobId, MY.GlidebridgeHeld ?: "", " ")
# What was released at once may be on the list for a moment yet.
PREEMPT = $(IS_HELD) && time() - MY.EnteredCurrentActivity > 5
WANT_HOLD = $(IS_HELD)
WANT_HOLD_REASON = regexps(strcat(TARGET.GlobalJobId, " ([^|]*)"), MY.GlidebridgeReasons, "\\1")
WANT_HOLD_SUBCODE = 0
WANT_VACATE = True
ENABLE_SSH_TO_JOB = False
ENABLE_KERNEL_TUNING = False
RUNBENCHMARKS = 0
MAIL = /bin/true
SENDMAIL = /bin/true
SINGULARITY = /bin/false
DOCKER =
UPDATE_INTERVAL = 30
"""


class Gateway:
    """The startd of one route: laid out, started, watched, stopped. It outlives the bridge."""

    def __init__(self, route: CondorRoute, directory: Path, counter: Path) -> None:
        """Nothing is touched before ``start``."""
        self.route, self.directory, self.counter = route, directory, counter
        self.account = account_of(route.account)
        self.master = Child("condor_master", directory / "master.pid")

    def __repr__(self) -> str:
        state = "up" if self.is_running() else "down"
        return f"<Gateway of route {self.route.name} into {self.route.pool}, {state}>"

    @property
    def domain(self) -> str:
        """What its daemons trust each other in, and nobody else."""
        return f"{self.route.name}.gateway"

    def is_running(self) -> bool:
        """Whether its master lives, whoever started it."""
        return self.master.pid() is not None

    def check(self) -> None:
        """Raise BadRequest, UnknownObject for what would keep it from starting."""
        start_expression(self.route)
        program = self.route.htcondor / "usr/sbin/condor_master"
        if not program.exists():
            raise UnknownObject(f"there is no {program}: set htcondor of {self._title}")
        if self.route.token is not None and not self.route.token.is_file():
            raise UnknownObject(f"there is no token {self.route.token}: set token of {self._title}")

    @property
    def _title(self) -> str:
        return f"[route {self.route.name}]"

    def start(self) -> None:
        """Start it, unless it runs; raises OSError, BadRequest, UnknownObject."""
        if self.is_running():
            return
        self.check()
        configuration = self._lay_out()
        is_root = os.geteuid() == 0
        with (self.directory / "log" / "master.out").open("ab") as output:
            self.master.start(
                [str(self.route.htcondor / "usr/sbin/condor_master"), "-f"],
                env={"CONDOR_CONFIG": str(configuration), "PATH": "/usr/bin:/bin"},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.account.pw_uid if is_root else None,
                group=self.account.pw_gid if is_root else None,
                extra_groups=[] if is_root else None,
            )

    def hold(self, reasons: Mapping[str, str]) -> None:
        """Have these jobs held, by their names, and no others: its startd does so in a moment."""
        said = "|".join(f"{name} {_harmless(reason)}" for name, reason in reasons.items())
        text = f'GlidebridgeHeld = "{" ".join(reasons)}"\nGlidebridgeReasons = "{said}"\n'
        partial = self.directory / f"{HELD}.part"
        partial.write_text(text)
        partial.replace(self.directory / HELD)

    def stop(self, patience: float) -> None:
        """End it: its jobs wait again where they come from. Nothing of it is left running."""
        self.master.stop(signal.SIGQUIT, patience)

    def _lay_out(self) -> Path:
        for name in (*PUBLIC, *SECRET):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for name in SECRET:
            (self.directory / name).chmod(0o700)
        if self.route.token is not None:
            self._keep_secret("tokens.d/pool", self.route.token.read_bytes())
        key = secrets.token_bytes(64)
        self._keep_secret(f"passwords.d/{SIGNING_KEY}", key)
        own = mint(key, f"condor@{self.domain}", self.domain, datetime.now(UTC))
        self._keep_secret("tokens.d/own", own.encode())
        self.hold({})
        wrapper = self.directory / "carrier"
        wrapper.write_text(carrier_text(self.counter, "condor"))
        wrapper.chmod(0o755)
        configuration = self.directory / "condor_config"
        configuration.write_text(self.configuration(wrapper))
        for path in (self.directory, *(self.directory / name for name in (*PUBLIC, *SECRET))):
            self._give(path)
        return configuration

    def _keep_secret(self, name: str, content: bytes) -> None:
        target = self.directory / name
        with open(target, "wb", opener=_for_us_alone) as file:
            file.write(content)
        self._give(target)

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def configuration(self, wrapper: Path) -> str:
        """Its configuration, as HTCondor reads it."""
        route = self.route
        text = CONFIGURATION.format(
            name=route.name,
            prefix=str(route.htcondor).rstrip("/"),
            directory=self.directory,
            uid=self.account.pw_uid,
            gid=self.account.pw_gid,
            pool=route.pool,
            domain=self.domain,
            key=SIGNING_KEY,
            slots=route.slots,
            memory_mib=route.slots * route.memory_mib,
            start=start_expression(route),
            wrapper=wrapper,
            held=self.directory / HELD,
        )
        if route.address:
            text += f"NETWORK_INTERFACE = {route.address}\n"
        if route.ccb:
            text += "CCB_ADDRESS = $(COLLECTOR_HOST)\n"
        if route.settings is not None:
            text += route.settings.read_text()
        return text


def _harmless(reason: str) -> str:
    """``reason`` as it can stand in a string of an ad, and between bars."""
    plain = "".join(c if c.isprintable() and c not in '"\\|' else " " for c in reason)
    return plain[:LONGEST_REASON]


def start_expression(route: CondorRoute) -> str:
    """Which jobs the gateway of ``route`` takes; raises BadRequest for what is no expression."""
    try:
        wanted = ads.expression(route.jobs)
    except AdSyntaxError as error:
        raise BadRequest(f"[route {route.name}] jobs: {error}") from None
    return " && ".join((*NEVER, f"({wanted})"))


def carrier_text(counter: Path, kind: str) -> str:
    """The program that stands in for jobs of a kind: one file, for a bare interpreter."""
    path = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    text = Path(carrier.__file__).read_text()
    start = f"sys.argv[1:1] = [{str(counter)!r}, {kind!r}]\n    main()\n"
    return f"#!{path} -IS\n{text.replace('    main()' + chr(10), '    ' + start)}"


def account_of(name: str) -> pwd.struct_passwd:
    """As whom the daemons run: ``name`` where we are root, else ourselves."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise UnknownObject(f"account {name!r} is no user of this machine") from None


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
