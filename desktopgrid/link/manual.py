"""The keys of ``xtremweb.worker.conf`` and ``xwrc``, the XWHEP manual's files for workers and
clients (7.2.1, 7.3.1), and what each means here. Both programs know all of them.
"""

from __future__ import annotations

from desktopgrid.model.manual import Ignored, Means, Table, a_port

NO = ("no", "false", "0", "off", "")
POLICIES = (
    "AlwaysActive",
    "DateActivator",
    "CpuActivator",
    "MouseKbdActivator",
    "WinSaverActivator",
    "MacSaverActivator",
)
PACKAGE = "xtremweb.worker."


def a_policy(value: str) -> None:
    """The check of an activation policy's name, with or without its Java package."""
    if value.removeprefix(PACKAGE) not in POLICIES:
        raise ValueError(f"must be one of {', '.join(POLICIES)}, not {value!r}")


def a_count(value: str) -> None:
    """The check of a number of things; -1 is as many as there may be."""
    if not value.removeprefix("-").isdigit():
        raise ValueError(f"must be a whole number, not {value!r}")


def a_path(value: str) -> None:
    """The check of a path that is there at all."""
    if not value:
        raise ValueError("must be a path, and is empty")


def of_a_peer(value: str) -> None:
    """The check that a file is a worker's or a client's."""
    if value.lower() not in ("worker", "client"):
        raise ValueError(f"must be worker or client, not {value!r}: this is another program's file")


def counted(value: str) -> str:
    """Nothing where the manual says -1, which is no limit."""
    return str(max(0, int(value)))


def milliseconds(value: str) -> str:
    """A span of ours for milliseconds."""
    return f"{int(value) / 1000:g} s"


def below(value: str) -> str:
    """A directory of the worker's own in a place that it may share."""
    return f"{value}/glidebridge-worker"


_PORT = "clients and workers use one port of a server, port.https"
_POLICY = "activation policies are not in force yet: this worker computes whenever it runs"
_SANDBOX = "there is no sandbox to choose: each task has its own directory, limits and processes"
_RETRY = "a server that is away is tried for ever, with growing pauses"
_PILOT = "`pilot submit` makes pilots, and tells each what it is"
_ONE_WORK = "it is a work that chooses its host, by `xw submit --expected-host`"


def _table(loglevel: Means, patience: Means) -> Table:
    return {
        "dispatcher.servers": Means("grid", "servers"),
        "path.certfile": Means("grid", "certificate", check=a_path),
        "login": Means("grid", "login"),
        "password": Means("grid", "password", is_secret=True),
        "port.https": Means("grid", "port", check=a_port),
        "port.tcp": Ignored(_PORT, ("4321",), a_port),
        "port.udp": Ignored(_PORT, ("4322",), a_port),
        "port.worker.http": Ignored("a worker listens at no port", ("4323",), a_port),
        "port.http": Ignored(_PORT, ("4324",), a_port),
        "port.xmlrpc": Ignored(_PORT, ("4326",), a_port),
        "port.xlmrpc": Ignored(_PORT, ("4326",), a_port),
        "port.sunrpc": Ignored(_PORT, ("4327",), a_port),
        "java.nio": Ignored("nothing here is written in Java"),
        "LOGGERLEVEL": loglevel,
        "client.loopdelay": patience,
        "path.tmpdir": Means("worker", "directory", below, a_path),
        "workpool.size": Means("worker", "slots", counted, a_count),
        "NOOPTIMEOUT": Means("worker", "idle_time", counted, a_count),
        "computing.jobs": Means("worker", "max_tasks", counted, a_count),
        "activator.class": Ignored(_POLICY, ("xtremweb.worker.alwaysactive",), a_policy),
        "activator.date": Ignored(_POLICY),
        "activator.delay": Ignored(_POLICY),
        "cpuload": Ignored(_POLICY),
        "sandbox.enable": Ignored(_SANDBOX, NO),
        "sandbox.name": Ignored(_SANDBOX, NO),
        "sandbox.args": Ignored(_SANDBOX, NO),
        "sandbox.embedded": Ignored(_SANDBOX, NO),
        "tracer.enable": Ignored("a worker sends no traces of what its host does", NO),
        "notify.enable": Ignored("there is no icon in a task bar", NO),
        "update.restartCommand": Ignored("a worker does not replace itself"),
        "alive.period": Ignored("the server tells its workers how often to say they are alive"),
        "tomcat.port": Ignored("no web server belongs to a worker"),
        "PROJECT": Ignored("a worker is of the user group of the user whose identity it has"),
        "MAXRETRY": Ignored(_RETRY, ("10",)),
        "TIMEOUT": Ignored(_RETRY, ("15000",)),
        "PILOTJOB": Ignored(_PILOT, NO),
        "SGID": Ignored(_PILOT),
        "JOBID": Ignored(_ONE_WORK),
        "BATCHID": Ignored(_ONE_WORK),
        "launcher.url": Ignored("a worker is installed, and not loaded when it starts"),
        # The manual has it in a script of definitions, bin/xtremwebconf.sh; the spelling is ours.
        "xtremweb.user": Means("worker", "user"),
        "xtremweb.role": Ignored("", ("worker", "client"), of_a_peer),
    }


WORKERS = _table(
    Means("worker", "log_level", str.lower),
    Means("client", "answer_within", milliseconds, a_count),
)
"""The keys as a worker reads them."""

CLIENTS = _table(
    Means("client", "log_level", str.lower),
    Means("client", "answer_within", milliseconds, a_count),
)
"""The keys as a client reads them."""
