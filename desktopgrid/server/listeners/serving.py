"""The server as a process: opens the port, serves until it is told to stop, and leaves nothing
unfinished.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable

import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine

from desktopgrid.model.errors import Unavailable
from desktopgrid.server import access, audit
from desktopgrid.server.database import engine as database
from desktopgrid.server.database.suitability import weaknesses
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.home import Home, write_private
from desktopgrid.server.listeners.app import build
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.doors import open_doors, runner_of
from desktopgrid.server.listeners.files import collect, sweep
from desktopgrid.server.listeners.history import forget_history
from desktopgrid.server.listeners.identities import Identities
from desktopgrid.server.listeners.monitor import monitor
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.logs import LineFile
from desktopgrid.server.objectstore import ObjectStore
from desktopgrid.server.outputs import Outputs
from desktopgrid.server.state import Policy
from desktopgrid.server.storage import Store
from desktopgrid.server.watching import Watcher

logger = logging.getLogger(__name__)

FILES_BESIDE_CONNECTIONS = 512
"""Files that the server has open beside its connections: database, datas, logs."""
BACKLOG = 4096
SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread may keep the interpreter. The journal's writer takes it once a row;
with the default of 5 ms a busy event loop would stretch a commit of 100 rows to half a second.
"""


def serve(home: Home, on_ready: Callable[[str], None], opened: socket.socket | None = None) -> int:
    """Serve the grid in ``home`` until SIGTERM or SIGINT; ``on_ready`` is called with the address
    once the port is open. ``opened`` is the port, if only root could open it.

    Raises Unavailable if another server has the grid, or the port is taken.
    """
    raise_file_limit(home.config.limits.max_connections)
    sys.setswitchinterval(SWITCH_INTERVAL)
    return uvloop.run(_serve(home, on_ready, opened))


def raise_file_limit(connections: int) -> None:
    """Make room for so many connections; says what to set where the system allows less."""
    wanted = connections + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        logger.warning(
            "The limit of open files is %d, enough for %d connections, not for %d;"
            " raise it with `ulimit -n %d` or LimitNOFILE=",
            hard,
            max(0, hard - FILES_BESIDE_CONNECTIONS),
            connections,
            wanted,
        )


def server_context(home: Home) -> ssl.SSLContext:
    """TLS as the worker/API port speaks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A resumed session has lost its client's certificate chain; see docs/decisions/0001.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(home.certificate, home.key)
    return context


def policy_of(home: Home) -> Policy:
    """What the administrator set, as decisions need it."""
    limits = home.config.limits
    return Policy(
        alive_period=home.config.server.alive_period.total_seconds(),
        max_open_works=limits.max_works,
        max_data_bytes=limits.max_data_mib << 20,
        longest_wall_time=int(limits.longest_wall_time.total_seconds()),
        losses_per_retry=limits.losses_per_retry,
        quota_mib=limits.quota_mib,
        max_objects=limits.max_objects,
        max_keys=limits.max_keys,
        direct_from=home.config.store.from_mib << 20 if home.config.store.endpoint else 0,
        schemes=home.config.datas.schemes,
        longest_delegation=home.config.identity.longest_delegation,
    )


def watcher_of(home: Home) -> Watcher:
    """Who is told what the server does, with the logs that the administrator wants."""
    settings = home.config.watching
    most, kept = settings.log_mib << 20, settings.logs_kept
    return Watcher(
        utc_now,
        LineFile(home.access_log, access.encode, most, kept) if settings.access_log else None,
        LineFile(home.audit_log, audit.encode, most, kept) if settings.audit_log else None,
    )


def warn_of_weaknesses(engine: Engine) -> None:
    """Say so where the database may forget what it has committed."""
    with engine.connect() as connection:
        for weakness in weaknesses(connection):
            logger.warning("%s", weakness)


async def _serve(home: Home, on_ready: Callable[[str], None], opened: socket.socket | None) -> int:
    engine = database.open(home)
    try:
        upgrade(engine)
        warn_of_weaknesses(engine)
        store = Store(home.datas, home.config.limits.min_free_mib << 20)
        outputs = Outputs(home.datas / "outputs")
        objects = ObjectStore(home.config.store) if home.config.store.endpoint else None
        watcher = watcher_of(home)
        service = Service(
            socket.gethostname(), engine, policy_of(home), home.caps, outputs, watcher
        )
        await service.start()
        service.spawn(sweep(service, store))
        if home.config.watching.monitoring_period:
            service.spawn(monitor(service, home))
        service.spawn(collect(home))
        server = x509.load_pem_x509_certificate(home.certificate.read_bytes())
        identities = Identities(
            server.public_bytes(Encoding.DER),
            home.config.identity,
            home.config.issuers,
        )
        service.identities = identities
        service.spawn(identities.watch(service.change))
        service.spawn(forget_history(service, home.config.limits.history_kept))
        app = build(service, store, objects, home.config.watching, identities)
        runner = runner_of(service, app)
        await runner.setup()
        site, port = await _open_port(runner, home, opened)
        if home.config.watching.ganglia_port:
            await runner.app["ganglia"].open()
        service.https_port = port
        doors = await open_doors(
            service, home.config.server.address, home.config.doors, server_context(home)
        )
        told = _listen_to_signals()
        address = f"https://localhost:{port}"
        write_private(home.address_file, address + "\n", mode=0o644)
        on_ready(address)
        stop = await told
        logger.info("Stopping on %s", stop)
        home.address_file.unlink(missing_ok=True)
        await site.stop()
        runner.app["ganglia"].close()
        for door in doors:
            await door.shut()
        await service.land(home.config.server.stop_patience.total_seconds())
        await service.stop()
        identities.close()
        await runner.cleanup()
        for door in doors:
            await door.close()
        watcher.close()
        return 0
    finally:
        engine.dispose()


async def _open_port(
    runner: web.AppRunner, home: Home, opened: socket.socket | None
) -> tuple[web.BaseSite, int]:
    settings = home.config.server
    context = server_context(home)
    site: web.BaseSite
    if opened is not None:
        site = web.SockSite(runner, opened, ssl_context=context, backlog=BACKLOG)
    else:
        site = web.TCPSite(
            runner,
            settings.address,
            settings.port,
            ssl_context=context,
            backlog=BACKLOG,
            reuse_address=True,
        )
    try:
        await site.start()
    except OSError as error:
        raise Unavailable(
            f"cannot listen at {settings.address} port {settings.port}: {error.strerror or error};"
            f" set port in {home.configuration}"
        ) from error
    port: int = runner.addresses[0][1]
    return site, port


def _listen_to_signals() -> asyncio.Future[str]:
    """The signal that tells us to stop, once it has come."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def tell(name: str) -> None:
        if not told.done():
            told.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell, number.name)
    return told
